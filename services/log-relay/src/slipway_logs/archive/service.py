"""Moving lines from the hot tail into the log store while the run goes on."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from slipway_db.database import Database
from slipway_kit.clock import Clock
from slipway_kit.logging import get_logger
from slipway_logs.archive import segments
from slipway_logs.archive.store import ArchiveStore, Segment, StreamState
from slipway_logs.frames import Frame, in_order
from slipway_logs.ingest.hot_tail import DueAttempt, HotTail
from slipway_logs.metrics import LogsMetrics
from slipway_storage import ObjectStore
from slipway_storage.keys import log_key

_log = get_logger()

FLUSH_AFTER_SECONDS = 15.0
"""Lines wait at most this long in the hot tail alone."""

ATTEMPTS_PER_ROUND = 256
_AT_ONCE = 8
"""Attempts whose lines are in memory at a time."""

KEPT_FRAMES = 32
KEPT_BYTES = 256 * 1024
"""Durable lines that stay in the hot tail, so that live readers need not touch the log store."""


@dataclass(frozen=True, slots=True)
class _Flush:
    """A segment that is ready to be put into the index."""

    segment: Segment
    replaces: Segment | None
    durable_before: int
    last_time_us: int
    hot_bytes: int
    keep_from: int


class ArchiveService:
    """Writes what is not durable yet; safe to run in every replica, since the index moves by compare-and-set."""

    def __init__(
        self,
        db: Database,
        tail: HotTail,
        store: ObjectStore,
        clock: Clock,
        metrics: LogsMetrics,
        *,
        flush_after_seconds: float = FLUSH_AFTER_SECONDS,
    ) -> None:
        self._db = db
        self._tail = tail
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._flush_after_seconds = flush_after_seconds
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def flush_due(self) -> int:
        """Write what has ended, is big enough or has waited long enough; returns how many segments were written."""
        now = self._clock.now().timestamp()
        due = await self._tail.due(now - self._flush_after_seconds, ATTEMPTS_PER_ROUND)
        self._metrics.undurable_attempts.set(await self._tail.undurable())
        if not due:
            return 0
        with self._metrics.flush_seconds.time():
            return await self._flush(due)

    async def _flush(self, due: Sequence[DueAttempt]) -> int:
        ids = [attempt.attempt_id for attempt in due]
        async with self._db.read() as session:
            store = ArchiveStore(session)
            states = await store.streams(ids)
            inline = await store.last_inline(ids)
        # In one order everywhere: two replicas that lock the same rows must not wait for each other.
        prepared = await asyncio.gather(
            *(self._prepare_alone(states[one], inline.get(one)) for one in sorted(ids) if one in states)
        )
        written = await self._add([flush for flush in prepared if flush is not None])
        for attempt in due:
            state = states.get(attempt.attempt_id)
            if state is None:
                # Without a row there is nothing to go on from; the worker's next request makes one.
                await self._tail.forget(attempt.attempt_id)
            else:
                await self._settle(attempt, state, written.get(attempt.attempt_id))
        return len(written)

    async def _add(self, flushes: Sequence[_Flush]) -> dict[UUID, _Flush]:
        if not flushes:
            return {}
        written: dict[UUID, _Flush] = {}
        async with self._db.transaction() as session:
            store = ArchiveStore(session)
            for flush in flushes:
                if await store.add(
                    flush.segment,
                    replaces=flush.replaces,
                    durable_before=flush.durable_before,
                    last_time_us=flush.last_time_us,
                ):
                    written[flush.segment.attempt_id] = flush
        return written

    async def _prepare_alone(self, state: StreamState, inline: Segment | None) -> _Flush | None:
        """One attempt that cannot be written must not hold up the others."""
        async with self._slots:
            try:
                return await self._prepare(state, inline)
            except Exception as error:  # noqa: BLE001 - the store's errors can be anything; the lines stay in the tail
                _log.warning("log_flush_failed", attempt_id=str(state.attempt_id), error=str(error))
                return None

    async def _prepare(self, state: StreamState, inline: Segment | None) -> _Flush | None:
        hot = await self._hot_frames(state)
        if not hot:
            return None
        hot_bytes = sum(len(frame.payload) for frame in hot)
        frames, replaces = hot, None
        if inline is not None and inline.inline is not None and hot_bytes < segments.SEGMENT_MIN_BYTES:
            replaces = inline
            frames = [*await segments.decode_aside(inline.inline, inline.raw_bytes), *hot]
        data = await segments.encode_aside(frames)
        raw_bytes = sum(len(frame.payload) for frame in frames)
        first_line, end_line = frames[0].header.first, frames[-1].end
        key = None
        if len(data) > segments.INLINE_MAX_BYTES or raw_bytes > segments.MERGE_MAX_BYTES:
            key = log_key(state.execution_id, state.attempt_id, first_line, end_line - 1, at=state.created_at)
            await self._store.put(key, data)
        return _Flush(
            segment=Segment(
                attempt_id=state.attempt_id,
                first_line=first_line,
                end_line=end_line,
                status_lines=segments.status_lines(frames),
                raw_bytes=raw_bytes,
                object_key=key,
                inline=None if key else data,
            ),
            replaces=replaces,
            durable_before=state.durable_lines,
            last_time_us=frames[-1].last_time_us,
            hot_bytes=sum(len(frame.pack()) for frame in hot),
            keep_from=_keep_from(hot),
        )

    async def _hot_frames(self, state: StreamState) -> list[Frame]:
        found: list[Frame] = []
        size, wanted = 0, state.durable_lines
        while size < segments.SEGMENT_MAX_BYTES and (page := await self._tail.read(state.attempt_id, wanted)):
            found += page
            size += sum(len(frame.payload) for frame in page)
            wanted = page[-1].end
        frames = list(in_order(found, state.durable_lines, state.last_time_us))
        if not frames and await self._lost(state):
            # Part of the tail is gone. What is left cannot be archived without a gap: ask the worker again.
            _log.warning("log_tail_incomplete", attempt_id=str(state.attempt_id), durable=state.durable_lines)
            await self._tail.forget(state.attempt_id)
        return _up_to(frames, segments.SEGMENT_MAX_BYTES)

    async def _lost(self, state: StreamState) -> bool:
        position = await self._tail.position(state.attempt_id)
        if position is None or position.next <= state.durable_lines:
            return False
        # Another replica may have written and trimmed these lines since the state was read.
        async with self._db.read() as session:
            now = await ArchiveStore(session).streams([state.attempt_id])
        return now[state.attempt_id].durable_lines == state.durable_lines

    async def _settle(self, attempt: DueAttempt, state: StreamState, flush: _Flush | None) -> None:
        durable = flush.segment.end_line if flush else state.durable_lines
        clean = await self._tail.settle(
            attempt.attempt_id,
            durable,
            flush.last_time_us if flush else state.last_time_us,
            flush.hot_bytes if flush else 0,
            self._clock.now().timestamp(),
        )
        if flush is not None:
            await self._tail.trim(attempt.attempt_id, flush.keep_from)
        if clean and attempt.ended:
            await self._tail.let_go(attempt.attempt_id)


def _keep_from(frames: Sequence[Frame]) -> int:
    size = 0
    keep = frames[-1].header.first
    for frame in frames[: -KEPT_FRAMES - 1 : -1]:
        size += len(frame.payload)
        if size > KEPT_BYTES:
            break
        keep = frame.header.first
    return keep


def _up_to(frames: Sequence[Frame], limit: int) -> list[Frame]:
    taken: list[Frame] = []
    size = 0
    for frame in frames:
        if taken and size + len(frame.payload) > limit:
            break
        taken.append(frame)
        size += len(frame.payload)
    return taken
