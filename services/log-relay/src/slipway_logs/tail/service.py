"""Logs of executions: the lines of their attempts, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from uuid import UUID

import msgspec

from slipway_db.database import Database
from slipway_logs.archive.reader import LogReader
from slipway_logs.attempts import AttemptLog, attempts_of, is_final, transitions_of
from slipway_logs.frames import Frame
from slipway_logs.tail.render import LogEvent, NumberedLine, events_of, numbered_lines, transition_event
from slipway_schemas.logs import LogStream

P = ParamSpec("P")
T = TypeVar("T")

_QUICK_LINES = 500
DEFAULT_LINES = 2000
"""What `events/` answers without a limit (design section 12, 'Lines')."""


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    """`events/` of the compatible API; the events come a frame's worth at a time, since a log may be large."""

    total: int
    truncated: bool
    events: AsyncIterator[list[LogEvent]]


class StatusEventsAnswer(msgspec.Struct):
    """`status-events/` of the compatible API."""

    total: int
    status_events: list[LogEvent]


class TailService:
    """Reads logs for people and clients."""

    def __init__(self, db: Database, reader: LogReader) -> None:
        self._db = db
        self._reader = reader

    async def events(self, execution_id: UUID, limit: int | None) -> EventsAnswer:
        """The last `limit` lines; 2,000 without a limit, all with 0."""
        attempts = await self.attempts(execution_id)
        counts = [await self._count(attempt) for attempt in attempts]
        total = sum(counts)
        wanted = total if limit == 0 else min(total, DEFAULT_LINES if limit is None else limit)
        events = self._events(list(zip(attempts, counts, strict=True)), total - wanted)
        return EventsAnswer(total=total, truncated=wanted < total, events=events)

    async def _events(self, attempts: Sequence[tuple[AttemptLog, int]], skip: int) -> AsyncIterator[list[LogEvent]]:
        for attempt, count in attempts:
            if skip >= count:
                skip -= count
                continue
            async for frame in self._reader.frames(attempt.id, skip):
                yield await _aside(frame, events_of, frame, skip, count)
                if frame.end >= count:
                    break
            skip = 0

    async def status_events(self, execution_id: UUID, limit: int | None) -> StatusEventsAnswer:
        """The first `limit` status lines: what the worker said and how the status changed, by time."""
        async with self._db.read() as session:
            attempts = await attempts_of(session, execution_id)
            events = [transition_event(one) for one in await transitions_of(session, execution_id)]
        for attempt in attempts:
            end = attempt.total_lines if attempt.total_lines is not None else 2**62
            async for frame in self._reader.status_frames(attempt.id):
                if frame.header.stream == LogStream.STATUS:
                    events += events_of(frame, 0, end)
        events.sort(key=lambda event: event.time)
        return StatusEventsAnswer(total=len(events), status_events=events[:limit] if limit else events)

    async def raw(self, execution_id: UUID) -> AsyncIterator[bytes]:
        """What the run printed, byte for byte: stdout and stderr in the order in which they came."""
        for attempt in await self.attempts(execution_id):
            count = await self._count(attempt)
            async for frame in self._reader.frames(attempt.id):
                if frame.header.first >= count:
                    break
                if frame.header.stream != LogStream.STATUS:
                    yield b"".join(frame.lines()[: count - frame.header.first])

    async def lines_after(self, execution_id: UUID, cursor: int) -> AsyncIterator[list[NumberedLine]]:
        """Lines with number `cursor` and above, counted over all attempts, a frame's worth at a time."""
        offset = 0
        for attempt in await self.attempts(execution_id):
            count = await self._count(attempt)
            if cursor < offset + count:
                first = max(cursor - offset, 0)
                async for frame in self._reader.frames(attempt.id, first):
                    lines = await _aside(frame, numbered_lines, frame, first, count, offset)
                    if not lines:
                        break
                    yield lines
            offset += count

    async def attempts(self, execution_id: UUID) -> list[AttemptLog]:
        """The tries of an execution, first try first."""
        async with self._db.read() as session:
            return await attempts_of(session, execution_id)

    async def is_final(self, execution_id: UUID) -> bool:
        """Whether nothing will be added to the execution's log."""
        async with self._db.read() as session:
            return await is_final(session, execution_id)

    async def _count(self, attempt: AttemptLog) -> int:
        if attempt.total_lines is not None:
            return attempt.total_lines
        return await self._reader.line_count(attempt.id)


async def _aside(frame: Frame, render: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Render a frame, in a thread when it has many lines."""
    if frame.header.lines <= _QUICK_LINES:
        return render(*args, **kwargs)
    return await asyncio.to_thread(render, *args, **kwargs)
