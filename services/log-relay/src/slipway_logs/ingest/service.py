"""Taking chunks of workers and of the builder: lines into the hot tail, metadata records into Postgres."""

from collections.abc import Sequence
from datetime import timedelta

from slipway_db.database import Database
from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict, Unavailable
from slipway_logs.archive.store import ArchiveStore, StreamState
from slipway_logs.frames import Frame
from slipway_logs.ingest.access import AttemptAccess, Standing
from slipway_logs.ingest.hot_tail import Appended, HotTail
from slipway_logs.metadata.writer import MetadataWriter
from slipway_logs.metrics import LogsMetrics
from slipway_logs.sources import LogSource
from slipway_logs.times import time_us_of
from slipway_schemas.logs import LogsAnswer, LogStream
from slipway_schemas.tokens import AttemptClaims

_RESTORE_TRIES = 5

_MAX_AHEAD = timedelta(days=1)
"""A worker's clock may be wrong by this much; later times are cut, so that one bad clock cannot end the sequence."""


class IngestService:
    """Appends what is wanted next and answers with what is wanted after that."""

    def __init__(
        self,
        db: Database,
        tail: HotTail,
        metadata: MetadataWriter,
        access: AttemptAccess,
        clock: Clock,
        metrics: LogsMetrics,
    ) -> None:
        self._db = db
        self._tail = tail
        self._metadata = metadata
        self._access = access
        self._clock = clock
        self._metrics = metrics

    async def take(self, claims: AttemptClaims, frames: Sequence[Frame]) -> LogsAnswer:
        """Take the frames that follow on what is there; others are answered with the line to continue at.

        Raises `Superseded` when the attempt is not the current one, and `Conflict` when it has ended and still sends
        more than it had when it ended. What it had may be sent again: the tail can be lost before it is durable.
        """
        standing = await self._access.standing(claims)
        source = LogSource(claims.attempt_id, claims.execution_id, claims.number)
        return await self._take(source, frames, standing)

    async def take_from_replica(self, source: LogSource, frames: Sequence[Frame]) -> LogsAnswer:
        """The same for a replica of an endpoint. Whoever sends its lines numbers them alike, so nobody is shut out."""
        return await self._take(source, frames, None)

    async def _take(self, source: LogSource, frames: Sequence[Frame], standing: Standing | None) -> LogsAnswer:
        lines = [frame for frame in frames if frame.header.stream != LogStream.METADATA]
        records = [frame for frame in frames if frame.header.stream == LogStream.METADATA]
        if standing is not None and standing.ended:
            _refuse_more(standing, lines, records)
        position = await self._append(source, lines) if lines else await self._position(source)
        metadata_next = await self._metadata.write(source, records)
        return LogsAnswer(next=position.next, durable=position.durable, metadata_next=metadata_next)

    async def _position(self, source: LogSource) -> Appended:
        known = await self._tail.position(source.attempt_id)
        if known is not None:
            return known
        state = await self._open(source)
        return Appended(next=state.durable_lines, durable=state.durable_lines)

    async def _append(self, source: LogSource, frames: list[Frame]) -> Appended:
        now = self._clock.now()
        latest = time_us_of(now + _MAX_AHEAD)
        frames = [frame.moved_to(latest) if frame.header.time_us > latest else frame for frame in frames]
        restored = 0
        while restored < _RESTORE_TRIES:
            appended = await self._tail.append(source.attempt_id, frames, now.timestamp())
            if appended is None:
                restored += 1
                await self._restore(source)
                continue
            self._metrics.ingested(appended.frames, appended.lines, appended.bytes)
            if appended.cut is None:
                return appended
            # The rest begins with what is wanted next, so that each round takes at least one frame.
            frames = [frames[appended.cut].from_line(appended.next), *frames[appended.cut + 1 :]]
        raise Unavailable("The log tail keeps losing its state; is the Redis server evicting keys?")

    async def _restore(self, source: LogSource) -> None:
        state = await self._open(source)
        await self._tail.restore(source.attempt_id, state.durable_lines, state.last_time_us)
        # Between the look at the archive and the start of the tail, lines that came before the loss may have become
        # durable: the worker must not be asked for those again, since it may have deleted them.
        if (await self._open(source)).durable_lines != state.durable_lines:
            await self._tail.forget(source.attempt_id)

    async def _open(self, source: LogSource) -> StreamState:
        async with self._db.transaction() as session:
            return await ArchiveStore(session).open_stream(source)


def _refuse_more(standing: Standing, lines: Sequence[Frame], records: Sequence[Frame]) -> None:
    beyond = max((frame.end for frame in lines), default=0) > (standing.total_lines or 0) or (
        max((frame.end for frame in records), default=0) > (standing.total_metadata or 0)
    )
    if beyond:
        raise Conflict("The attempt has ended; its log is closed.", code="ended")
