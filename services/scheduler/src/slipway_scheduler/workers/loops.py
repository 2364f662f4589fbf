"""The loop that judges leases, once a second, by the database clock."""

from sqlalchemy import TextClause

from slipway_db import Database
from slipway_scheduler.settings import LeaseSettings
from slipway_scheduler.workers.service import WorkerService


class LeaseLoop:
    """Finds workers that are not heard of. It beats even when no lease exists: a gap in its beats is an outage.

    So is the time before its first beat, and a beat that failed: workers may not have been heard then.
    """

    name = "leases"
    due: TextClause | None = None
    channel = None

    def __init__(self, db: Database, pepper: str, leases: LeaseSettings) -> None:
        self._db = db
        self._pepper = pepper
        self._leases = leases
        self.interval = leases.judge_seconds
        self._interrupted = True

    async def run(self) -> int:
        """Judge once."""
        after_outage, self._interrupted = self._interrupted, True
        async with self._db.transaction() as session:
            judged = await WorkerService(session, self._pepper, self._leases).judge(after_outage=after_outage)
        self._interrupted = False
        return judged
