"""Retention: logs of deleted executions, and of old ones where the operator says so, are purged."""
