"""The dispatch loop: woken by NOTIFY when something is queued or a slot gets free, else once a second."""

from sqlalchemy import text

from slipway_db import Database
from slipway_scheduler.channels import DISPATCH
from slipway_scheduler.dispatch.service import DispatchService
from slipway_scheduler.workers.hub import WorkerHub


class DispatchLoop:
    """Hands out what waits, many executions per transaction, and wakes the held syncs of those who got some."""

    name = "dispatch"
    due = text("EXISTS (SELECT FROM queue) AND EXISTS (SELECT FROM worker_states WHERE reachable AND free_slots > 0)")
    channel = DISPATCH

    def __init__(self, db: Database, hub: WorkerHub, lease_seconds: float) -> None:
        self._db = db
        self._hub = hub
        self._lease_seconds = lease_seconds

    async def run(self) -> int:
        """Dispatch one batch; returns the number of workers that got work."""
        async with self._db.transaction() as session:
            workers = await DispatchService(session, self._lease_seconds).dispatch()
        self._hub.wake(workers)
        return len(workers)
