"""Deployments: named groups of versions on one target."""
