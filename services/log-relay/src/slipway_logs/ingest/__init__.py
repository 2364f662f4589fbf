"""Ingest: chunks from workers go into the hot tail, in order, once."""
