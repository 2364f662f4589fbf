"""Logs of endpoints: one for each replica and day, read together."""
