"""The worker's cache of input files."""
