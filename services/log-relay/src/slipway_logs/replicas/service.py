"""Reading what the replicas of an endpoint wrote."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from slipway_db.database import Database
from slipway_logs.archive.reader import LogReader
from slipway_logs.frames import Frame
from slipway_logs.replicas.domain import Cursor, ReplicaLog
from slipway_logs.replicas.store import ReplicaLogStore
from slipway_logs.tail.render import events_of
from slipway_logs.times import iso_utc, moment_of
from slipway_schemas.inference.versions import EndpointLine, EndpointLines
from slipway_schemas.logs import LogStream

_AT_ONCE = 8


class ReplicaLine(msgspec.Struct):
    """One line of the live stream."""

    replica: str
    stream: str
    time: str
    message: str


@dataclass(frozen=True, slots=True)
class _End:
    """A log with its length and the time of its last line."""

    log: ReplicaLog
    lines: int
    last_time_us: int


class ReplicaLogService:
    """Logs of endpoints. Lines of one replica are in order; replicas are put together by time."""

    def __init__(self, db: Database, reader: LogReader) -> None:
        self._db = db
        self._reader = reader

    async def newest(self, endpoint_id: UUID, limit: int) -> EndpointLines:
        """The newest lines of all replicas, by time, and the place at which what is newer begins."""
        async with self._db.read() as session:
            logs = await ReplicaLogStore(session).logs(endpoint_id)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def end_of(log: ReplicaLog) -> _End:
            async with slots:
                return await self._end(log)

        ends = [one for one in await asyncio.gather(*map(end_of, logs)) if one.lines]
        ends.sort(key=lambda one: one.last_time_us, reverse=True)
        found: list[tuple[int, EndpointLine]] = []
        for end in ends:
            if len(found) >= limit and end.last_time_us <= found[0][0]:
                break
            found += await self._last(end, limit)
            found.sort(key=lambda one: one[0])
            del found[:-limit]
        newest_day = max((one.day for one in logs), default=0)
        cursor = Cursor({(one.log.day, one.log.replica): one.lines for one in ends if one.log.day >= newest_day - 1})
        return EndpointLines(lines=tuple(line for _, line in found), next=str(cursor))

    async def lines_after(self, endpoint_id: UUID, cursor: Cursor) -> AsyncIterator[tuple[Cursor, list[ReplicaLine]]]:
        """What came after a place, a frame's worth at a time, each with the place behind it."""
        async with self._db.read() as session:
            logs = await ReplicaLogStore(session).logs(endpoint_id, cursor.first_day)
        for log in logs:
            first = cursor.places.get((log.day, log.replica), 0)
            if first >= await self._reader.line_count(log.id):
                continue
            async for frame in self._reader.frames(log.id, first):
                lines = [
                    ReplicaLine(log.replica, one.stream, one.time, one.message)
                    for one in events_of(frame, first, frame.end)
                ]
                cursor = cursor.after(log, frame.end)
                yield cursor, lines

    async def records(self, endpoint_id: UUID, limit: int) -> list[dict[str, Any]]:
        """The newest metadata records of all replicas, each with `_time` unless the server set one itself."""
        async with self._db.read() as session:
            records = await ReplicaLogStore(session).records(endpoint_id, limit)
        return [{"_time": iso_utc(time_us) + "+00:00", **values} for time_us, values in records]

    async def _end(self, log: ReplicaLog) -> _End:
        lines = await self._reader.line_count(log.id)
        last = 0
        if lines:
            async for frame in self._reader.frames(log.id, lines - 1):
                last = frame.last_time_us
        return _End(log, lines, last)

    async def _last(self, end: _End, limit: int) -> list[tuple[int, EndpointLine]]:
        first = max(end.lines - limit, 0)
        return [
            line
            async for frame in self._reader.frames(end.log.id, first)
            for line in _lines(frame, end.log.replica)
            if frame.header.first < end.lines
        ]


def _lines(frame: Frame, replica: str) -> list[tuple[int, EndpointLine]]:
    stream = LogStream(frame.header.stream).label
    return [
        (at, EndpointLine(at=moment_of(at), replica=replica, stream=stream, text=text))
        for at, text in (
            (frame.header.time_us + index, line.rstrip(b"\r\n").decode("utf-8", "replace"))
            for index, line in enumerate(frame.lines())
        )
    ]
