"""SQL of data."""
