"""The loop that purges logs whose time is over."""

from dataclasses import dataclass
from datetime import timedelta

from slipway_db import Database
from slipway_kit.clock import Clock
from slipway_kit.logging import get_logger
from slipway_logs.archive.store import ArchiveStore
from slipway_logs.attempts import is_deleted
from slipway_logs.metadata.store import MetadataStore
from slipway_logs.replicas.store import ReplicaLogStore
from slipway_logs.usage.store import UsageStore
from slipway_storage import ObjectStore
from slipway_storage.keys import log_key

_log = get_logger()
_BATCH = 20


@dataclass
class RetentionLoop:
    """Deletes the objects of due logs, then their index: a crash in between leaves work, not leftovers.

    Metadata of an execution outlives a log that is merely old, and goes with a deleted execution; that of an endpoint
    goes with its log. Logs of endpoints are kept for a while after their version or deployment is deleted.
    """

    db: Database
    store: ObjectStore
    clock: Clock
    keep_days: int | None
    keep_deleted: timedelta
    name: str = "retention"
    due: None = None
    channel: None = None
    interval: float = 60.0

    async def run(self) -> int:
        """Purge one batch; returns how many logs that were."""
        now = self.clock.now()
        async with self.db.transaction() as session:
            await ReplicaLogStore(session).schedule_deleted(now - self.keep_deleted, now)
        if self.keep_days is not None:
            async with self.db.transaction() as session:
                await ArchiveStore(session).schedule_old(now - timedelta(days=self.keep_days), now)
        async with self.db.read() as session:
            due = await ArchiveStore(session).due_for_purge(_BATCH)
        for log in due:
            # By folder, not by index: a flush that another replica overtook has left its object there.
            folder = log_key(log.execution_id, log.attempt_id, 0, 0, at=log.created_at).rpartition("/")[0]
            keys = [found.key async for found in self.store.list(folder)]
            for key in keys:
                await self.store.delete(key)
            async with self.db.transaction() as session:
                await ArchiveStore(session).mark_purged(log.attempt_id)
                await UsageStore(session).delete(log.attempt_id)
                if log.replica is not None or await is_deleted(session, log.execution_id):
                    await MetadataStore(session).delete(log.execution_id, log.attempt_id)
            _log.info("log_purged", attempt_id=str(log.attempt_id), objects=len(keys))
        return len(due)
