"""Reading what happened to attempts. Whoever asks has been let in to the execution or project."""

from uuid import UUID

from slipway_db import Database
from slipway_gateway.failures.domain import Attempt, FailureGroup, attempt_of, summary_of
from slipway_gateway.failures.store import FailureStore

_NEWEST = 5


class FailureService:
    """Attempts with their evidence, and groups of equal failures."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def attempts(self, execution_id: UUID) -> list[Attempt]:
        """All tries of an execution, newest first."""
        async with self._db.read() as session:
            rows = await FailureStore(session).attempts(execution_id)
        return [attempt_of(dict(row)) for row in rows]

    async def failures(self, project_id: UUID, *, days: int, limit: int) -> list[FailureGroup]:
        """What failed in a project within so many days, most recent first."""
        async with self._db.read() as session:
            rows = await FailureStore(session).failures(project_id, days=days, newest=_NEWEST, limit=limit)
        return [
            FailureGroup.model_validate({**row, "summary": summary_of(row["reason"]), "line": row["line"] or ""})
            for row in rows
        ]
