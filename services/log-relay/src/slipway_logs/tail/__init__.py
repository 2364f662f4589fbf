"""Tail: one reader for running and finished attempts, live streams for browsers."""
