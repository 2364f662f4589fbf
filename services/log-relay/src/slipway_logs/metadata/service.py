"""Reading metadata."""

from typing import Any
from uuid import UUID

from slipway_db.database import Database
from slipway_logs.attempts import attempts_of
from slipway_logs.metadata.store import MetadataStore
from slipway_logs.times import iso_utc


class MetadataService:
    """Series of executions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def records(self, execution_id: UUID) -> list[dict[str, Any]]:
        """Records of the newest attempt that printed any, each with `_time` unless the run set one itself."""
        async with self._db.read() as session:
            for attempt in reversed(await attempts_of(session, execution_id)):
                records = await MetadataStore(session).series(attempt.id)
                if records:
                    return [{"_time": iso_utc(time_us) + "+00:00", **values} for time_us, values in records]
        return []
