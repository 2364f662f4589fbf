"""Executions: the compatible API in front of the scheduler, and what a worker needs to run an attempt."""
