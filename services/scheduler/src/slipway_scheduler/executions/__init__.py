"""Executions: their state machine, creation, stopping and changes."""
