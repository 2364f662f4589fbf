"""SQL of the archive."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_logs.archive.tables import SegmentRow, StreamRow
from slipway_logs.sources import LogSource


@dataclass(frozen=True, slots=True)
class StreamState:
    """How much of an attempt's log is durable."""

    attempt_id: UUID
    execution_id: UUID
    number: int
    replica: str | None
    durable_lines: int
    last_time_us: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """An entry of the index."""

    attempt_id: UUID
    first_line: int
    end_line: int
    status_lines: int
    raw_bytes: int
    object_key: str | None
    inline: bytes | None


_STATE = (
    StreamRow.attempt_id,
    StreamRow.execution_id,
    StreamRow.number,
    StreamRow.replica,
    StreamRow.durable_lines,
    StreamRow.last_time_us,
    StreamRow.created_at,
)


class ArchiveStore:
    """Read and write the index within one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def open_stream(self, source: LogSource) -> StreamState:
        """The state of a log, begun now if there is none."""
        await self._session.execute(
            insert(StreamRow)
            .values(
                attempt_id=source.attempt_id,
                execution_id=source.execution_id,
                number=source.number,
                replica=source.replica,
            )
            .on_conflict_do_nothing()
        )
        return (await self.streams([source.attempt_id]))[source.attempt_id]

    async def streams(self, attempt_ids: Sequence[UUID]) -> dict[UUID, StreamState]:
        """States of these attempts' logs; attempts without a log are left out."""
        rows = await self._session.execute(select(*_STATE).where(StreamRow.attempt_id.in_(attempt_ids)))
        return {row.attempt_id: StreamState(*row) for row in rows}

    async def segments(self, attempt_id: UUID, first_line: int = 0, *, with_status: bool = False) -> list[Segment]:
        """Index entries from the one that holds `first_line` on, in order; on request only those with status lines."""
        query = select(*SegmentRow.__table__.columns).where(
            SegmentRow.attempt_id == attempt_id, SegmentRow.end_line > first_line
        )
        if with_status:
            query = query.where(SegmentRow.status_lines > 0)
        rows = await self._session.execute(query.order_by(SegmentRow.first_line))
        return [Segment(**row._mapping) for row in rows]

    async def last_inline(self, attempt_ids: Sequence[UUID]) -> dict[UUID, Segment]:
        """The inline segment at the end of each of these logs, where there is one."""
        rows = await self._session.execute(
            select(*SegmentRow.__table__.columns)
            .join(StreamRow, StreamRow.attempt_id == SegmentRow.attempt_id)
            .where(
                SegmentRow.attempt_id.in_(attempt_ids),
                SegmentRow.inline.is_not(None),
                SegmentRow.end_line == StreamRow.durable_lines,
            )
        )
        return {row.attempt_id: Segment(**row._mapping) for row in rows}

    async def add(self, segment: Segment, *, replaces: Segment | None, durable_before: int, last_time_us: int) -> bool:
        """Make a segment part of the log; False when somebody else was faster, and then nothing is changed."""
        added = segment.raw_bytes - (replaces.raw_bytes if replaces else 0)
        moved = await self._session.execute(
            update(StreamRow)
            .where(StreamRow.attempt_id == segment.attempt_id, StreamRow.durable_lines == durable_before)
            .values(
                durable_lines=segment.end_line,
                durable_bytes=StreamRow.durable_bytes + added,
                last_time_us=last_time_us,
            )
            .returning(StreamRow.attempt_id)
        )
        if moved.first() is None:
            return False
        if replaces is not None:
            await self._session.execute(
                delete(SegmentRow).where(
                    SegmentRow.attempt_id == replaces.attempt_id, SegmentRow.first_line == replaces.first_line
                )
            )
        await self._session.execute(
            insert(SegmentRow).values(
                attempt_id=segment.attempt_id,
                first_line=segment.first_line,
                end_line=segment.end_line,
                status_lines=segment.status_lines,
                raw_bytes=segment.raw_bytes,
                object_key=segment.object_key,
                inline=segment.inline,
            )
        )
        return True

    async def schedule_purge(self, execution_id: UUID, at: datetime) -> None:
        """Purge all of this execution at that time, also what is left of a log that was purged as an old one."""
        await self._session.execute(
            update(StreamRow).where(StreamRow.execution_id == execution_id).values(purge_at=at, purged=False)
        )

    async def schedule_old(self, before: datetime, at: datetime) -> int:
        """Purge logs that began before that time and are not scheduled yet."""
        result = await self._session.execute(
            update(StreamRow)
            .where(StreamRow.created_at < before, StreamRow.purge_at.is_(None))
            .values(purge_at=at)
            .returning(StreamRow.attempt_id)
        )
        return len(result.all())

    async def due_for_purge(self, limit: int) -> list[StreamState]:
        """Attempts whose logs are to be purged now."""
        rows = await self._session.execute(
            select(*_STATE)
            .where(StreamRow.purge_at <= func.now(), ~StreamRow.purged)
            .order_by(StreamRow.purge_at)
            .limit(limit)
        )
        return [StreamState(*row) for row in rows]

    async def mark_purged(self, attempt_id: UUID) -> None:
        """Forget the segments of this log; the row stays and says that it was purged."""
        await self._session.execute(delete(SegmentRow).where(SegmentRow.attempt_id == attempt_id))
        await self._session.execute(
            update(StreamRow).where(StreamRow.attempt_id == attempt_id).values(purged=True, durable_bytes=0)
        )
