"""SQL of attempts and failures: what the scheduler publishes. Callers have checked who may see it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

_ATTEMPTS = text("""
SELECT a.id, a.number, a.worker_id, w.hostname, a.phase, a.detail, a.created_at, a.accepted_at, a.user_code_at,
    a.ended_at, a.superseded, a.exit_code, a.end_reason, a.end_message, a.end_evidence, a.fingerprint, a.total_lines,
    a.total_outputs
FROM scheduler_pub.attempt_v1 a LEFT JOIN scheduler_pub.worker_v1 w ON w.id = a.worker_id
WHERE a.execution_id = :id ORDER BY a.number DESC LIMIT 100
""")
_FAILURES = text("""
WITH failed AS (
    SELECT a.fingerprint, a.end_reason, a.failure_line, a.ended_at, e.id, e.counter, e.step,
        row_number() OVER (PARTITION BY a.fingerprint ORDER BY a.ended_at DESC, a.id) AS age
    FROM scheduler_pub.execution_v1 e JOIN scheduler_pub.attempt_v1 a ON a.execution_id = e.id
    WHERE e.project_id = :project AND e.deleted_at IS NULL AND a.fingerprint IS NOT NULL
        AND a.ended_at > now() - make_interval(days => :days)
)
SELECT fingerprint, count(*) AS count, min(ended_at) AS first_seen, max(ended_at) AS last_seen,
    (array_agg(end_reason ORDER BY age))[1] AS reason, (array_agg(failure_line ORDER BY age))[1] AS line,
    jsonb_agg(jsonb_build_object('id', id, 'counter', counter, 'step', step) ORDER BY age)
        FILTER (WHERE age <= :newest) AS executions
FROM failed GROUP BY fingerprint ORDER BY last_seen DESC, fingerprint LIMIT :limit
""")


class FailureStore:
    """Reads in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def attempts(self, execution_id: UUID) -> Sequence[RowMapping]:
        """All tries of an execution, newest first."""
        return (await self._session.execute(_ATTEMPTS, {"id": execution_id})).mappings().all()

    async def failures(self, project_id: UUID, *, days: int, newest: int, limit: int) -> Sequence[RowMapping]:
        """Failures of a project by fingerprint, with the newest executions of each."""
        parameters: dict[str, Any] = {"project": project_id, "days": days, "newest": newest, "limit": limit}
        return (await self._session.execute(_FAILURES, parameters)).mappings().all()
