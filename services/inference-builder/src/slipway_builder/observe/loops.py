"""Forgets what is old."""

from slipway_builder.observe.log_store import LogStore
from slipway_builder.observe.store import CountStore
from slipway_db import Database


class ForgetCountsLoop:
    """Deletes counts after the days that the installation keeps them, and marks of logs that nobody writes."""

    name = "forget_counts"
    due = None
    channel = None
    interval = 3600.0

    def __init__(self, db: Database, days: int) -> None:
        self._db = db
        self._days = days

    async def run(self) -> int:
        """Delete them."""
        async with self._db.transaction() as session:
            await CountStore(session).forget(self._days)
            await LogStore(session).forget()
        return 0
