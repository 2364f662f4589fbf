"""Deployment targets: the clusters and hosts that serve endpoints."""
