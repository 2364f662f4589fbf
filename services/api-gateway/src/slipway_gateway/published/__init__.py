"""The read contract: the views in gateway_pub."""
