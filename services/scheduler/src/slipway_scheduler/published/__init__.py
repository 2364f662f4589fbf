"""The read contract: what other services may read in SQL."""
