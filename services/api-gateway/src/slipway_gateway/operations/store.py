"""SQL of the operators' view: queues and workers as the scheduler publishes them, and uploads on their way."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_schemas.health import EnvironmentState, WorkerState

_ENVIRONMENTS = text("""
SELECT v.slug, v.name, v.enabled, coalesce(e.waiting, 0) AS waiting, coalesce(e.queued, 0) AS queued,
    coalesce(e.running, 0) AS running, e.oldest_queued_at,
    (SELECT count(*) FROM scheduler_pub.worker_v1 w
        WHERE w.environment_id = v.id AND w.state = 'connected' AND w.refusal = '') AS workers
FROM scheduler_pub.environment_v1 v
LEFT JOIN (SELECT environment_id, count(*) FILTER (WHERE status = 'created') AS waiting,
        count(*) FILTER (WHERE status = 'queued') AS queued,
        count(*) FILTER (WHERE status IN ('started', 'stopping')) AS running,
        min(queued_at) FILTER (WHERE status = 'queued') AS oldest_queued_at
    FROM scheduler_pub.execution_v1 WHERE status IN ('created', 'queued', 'started', 'stopping')
    GROUP BY environment_id) e ON e.environment_id = v.id
WHERE v.deleted_at IS NULL ORDER BY v.slug
""")
# Machines that are gone for a week are history, unless the platform still believes that they run something.
_WORKERS = text("""
SELECT w.id, w.hostname, v.name AS environment, w.state, w.agent_version AS version, w.last_seen_at, w.attempts,
    w.capacity, w.free, coalesce(nullif(w.refusal_message, ''), w.refusal) AS refusal, w.clock_skew_seconds
FROM scheduler_pub.worker_v1 w JOIN scheduler_pub.environment_v1 v ON v.id = w.environment_id
WHERE w.last_seen_at > now() - interval '7 days' OR w.attempts > 0
ORDER BY v.name, w.hostname, w.id LIMIT 1000
""")
_UPLOADS = text("SELECT count(*) AS waiting, min(created_at) AS oldest FROM uploads")


class OperationsStore:
    """Reads in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def environments(self) -> Sequence[EnvironmentState]:
        """Environments with their queues."""
        rows = (await self._session.execute(_ENVIRONMENTS)).mappings()
        return [EnvironmentState.model_validate(dict(row)) for row in rows]

    async def workers(self) -> Sequence[WorkerState]:
        """Workers that were seen within a week, or that hold attempts."""
        rows = (await self._session.execute(_WORKERS)).mappings()
        return [WorkerState.model_validate(dict(row)) for row in rows]

    async def uploads(self) -> tuple[int, datetime | None]:
        """How many files are on their way into a store, and since when the oldest."""
        row = (await self._session.execute(_UPLOADS)).one()
        return row.waiting, row.oldest
