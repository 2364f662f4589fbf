"""Executions, attempts, environments, workers and dispatch."""
