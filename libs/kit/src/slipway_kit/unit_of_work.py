"""Whether the running task is inside a unit of work."""

from contextvars import ContextVar

transaction_open: ContextVar[bool] = ContextVar("transaction_open", default=False)
"""True while a database transaction is open in this task; no client call may be made then."""
