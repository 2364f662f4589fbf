"""Postgres and Valkey as child processes of `slipway up`, for machines that bring neither."""

from slipway_allinone.embedded.postgres import EmbeddedPostgres, PostgresOptions
from slipway_allinone.embedded.process import EmbeddedServerError
from slipway_allinone.embedded.valkey import EmbeddedValkey, ValkeyOptions

__all__ = ["EmbeddedPostgres", "EmbeddedServerError", "EmbeddedValkey", "PostgresOptions", "ValkeyOptions"]
