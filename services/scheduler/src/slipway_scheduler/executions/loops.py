"""The loop that queues executions once their owner is under the quota again."""

from sqlalchemy import text

from slipway_db import Database
from slipway_scheduler.executions.service import ExecutionService


class PromoteLoop:
    """Moves `created` executions into the queue as soon as nothing blocks them."""

    name = "promote"
    due = text("EXISTS (SELECT FROM executions WHERE status = 'created' AND NOT code_missing)")
    channel = None

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(self) -> int:
        """Promote one batch."""
        async with self._db.transaction() as session:
            return await ExecutionService(session).promote()
