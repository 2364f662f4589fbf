"""Versions: one commit with its files, as endpoints."""
