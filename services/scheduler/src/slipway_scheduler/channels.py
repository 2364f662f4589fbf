"""Names of the NOTIFY channels by which the scheduler's replicas wake each other."""

DISPATCH = "scheduler_dispatch"
"""A queued execution or a free slot has appeared."""

WORKERS = "scheduler_workers"
"""Some worker has to be told something."""
