"""`slipway up`: embedded Postgres and Valkey, five services and a local worker behind one port."""
