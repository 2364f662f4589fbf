"""Suites that every provider of a protocol passes."""
