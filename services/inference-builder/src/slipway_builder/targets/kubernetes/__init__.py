"""Serves endpoints on a Kubernetes cluster."""
