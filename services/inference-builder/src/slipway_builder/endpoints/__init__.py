"""Endpoints: what a target is to serve, and what it serves."""
