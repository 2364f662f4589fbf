"""Envelope, outbox relay, stream consumer, trimming."""
