"""SQL of the logs of replicas."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_logs.archive.tables import StreamRow
from slipway_logs.metadata.store import BLOCK_RECORDS, Record
from slipway_logs.metadata.tables import MetadataBlockRow
from slipway_logs.replicas.domain import ReplicaLog

MOST_LOGS = 500
"""Of an endpoint with more logs than that, the newest are looked at."""

_DELETED = text("""
UPDATE streams SET purge_at = :now WHERE replica IS NOT NULL AND purge_at IS NULL AND execution_id IN (
    SELECT id FROM builder_pub.endpoint_access_v1 WHERE deleted_at < :before)
""")


class ReplicaLogStore:
    """Reads within one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def logs(self, endpoint_id: UUID, first_day: int = 0) -> list[ReplicaLog]:
        """The logs of an endpoint from that day on that are not purged, newest day first."""
        rows = await self._session.execute(
            select(StreamRow.attempt_id, StreamRow.number, StreamRow.replica)
            .where(StreamRow.execution_id == endpoint_id, StreamRow.replica.is_not(None), ~StreamRow.purged)
            .where(StreamRow.number >= first_day)
            .order_by(StreamRow.number.desc(), StreamRow.created_at.desc())
            .limit(MOST_LOGS)
        )
        return [ReplicaLog(row.attempt_id, row.number, row.replica or "") for row in rows]

    async def records(self, endpoint_id: UUID, limit: int) -> list[Record]:
        """The newest metadata records of all replicas, oldest first."""
        blocks = await self._session.execute(
            select(MetadataBlockRow.records)
            .join(StreamRow, StreamRow.attempt_id == MetadataBlockRow.attempt_id)
            .where(StreamRow.execution_id == endpoint_id, StreamRow.replica.is_not(None))
            .order_by(StreamRow.number.desc(), MetadataBlockRow.first.desc())
            .limit(-(-limit // BLOCK_RECORDS) + MOST_LOGS)
        )
        found: list[Any] = [record for records in blocks.scalars() for record in records]
        found.sort(key=lambda record: record[0])
        return [(int(time_us), values) for time_us, values in found[-limit:]]

    async def schedule_deleted(self, before: datetime, now: datetime) -> None:
        """Purge the logs of endpoints that were deleted before that time."""
        await self._session.execute(_DELETED, {"before": before, "now": now})
