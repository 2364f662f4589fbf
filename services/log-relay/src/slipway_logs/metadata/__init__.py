"""Metadata: the last value of each key and the series behind it."""
