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
from slipway_logs.frames import Frame
from slipway_logs.ingest.hot_tail import DirtyAttempt, HotTail
from slipway_storage import ObjectStore
from slipway_storage.keys import log_key

_log = get_logger()

FLUSH_AFTER_SECONDS = 15.0
"""Lines wait at most this long in the hot tail alone."""

ATTEMPTS_PER_ROUND = 256
KEPT_FRAMES = 32
"""Durable frames that stay in the hot tail, so that live readers need not touch the log store."""


@dataclass(frozen=True, slots=True)
class _Flush:
    """A segment that is ready to be put into the index."""

    segment: Segment
    replaces: Segment | None
    durable_before: int
    last_time_us: int
    hot_bytes: int


class ArchiveService:
    """Writes what is not durable yet; safe to run in every replica, since the index moves by compare-and-set."""

    def __init__(self, db: Database, tail: HotTail, store: ObjectStore, clock: Clock) -> None:
        self._db = db
        self._tail = tail
        self._store = store
        self._clock = clock

    async def flush_due(self) -> int:
        """Write what has ended, has waited long enough or is big enough; returns how many segments were written."""
        now = self._clock.now().timestamp()
        due = [attempt for attempt in await self._tail.dirty(ATTEMPTS_PER_ROUND) if _is_due(attempt, now)]
        return await self._flush(due) if due else 0

    async def _flush(self, due: Sequence[DirtyAttempt]) -> int:
        ids = [attempt.attempt_id for attempt in due]
        async with self._db.read() as session:
            store = ArchiveStore(session)
            states = await store.streams(ids)
            inline = await store.last_inline(ids)
        prepared = await asyncio.gather(*(self._prepare(states[one], inline.get(one)) for one in ids if one in states))
        flushes = [flush for flush in prepared if flush is not None]
        async with self._db.transaction() as session:
            store = ArchiveStore(session)
            added = {
                flush.segment.attempt_id: await store.add(
                    flush.segment,
                    replaces=flush.replaces,
                    durable_before=flush.durable_before,
                    last_time_us=flush.last_time_us,
                )
                for flush in flushes
            }
        await self._settle(due, states, {f.segment.attempt_id: f for f in flushes if added[f.segment.attempt_id]})
        return sum(added.values())

    async def _prepare(self, state: StreamState, inline: Segment | None) -> _Flush | None:
        frames = await self._hot_frames(state)
        if not frames:
            return None
        hot_bytes = sum(len(frame.payload) for frame in frames)
        replaces = None
        if inline is not None and inline.inline is not None and hot_bytes < segments.SEGMENT_MIN_BYTES:
            replaces = inline
            frames = [*segments.decode(inline.inline), *frames]
        data = await asyncio.to_thread(segments.encode, frames)
        raw_bytes = sum(len(frame.payload) for frame in frames)
        key = None
        if len(data) > segments.INLINE_MAX_BYTES or raw_bytes > segments.MERGE_MAX_BYTES:
            first, last_line = frames[0].header.first, frames[-1].end - 1
            key = log_key(state.execution_id, state.attempt_id, first, last_line, at=state.created_at)
            await self._store.put(key, data)
        last = frames[-1].header
        return _Flush(
            segment=Segment(
                attempt_id=state.attempt_id,
                first_line=frames[0].header.first,
                end_line=frames[-1].end,
                status_lines=segments.status_lines(frames),
                raw_bytes=raw_bytes,
                object_key=key,
                inline=None if key else data,
            ),
            replaces=replaces,
            durable_before=state.durable_lines,
            last_time_us=last.time_us + max(last.lines - 1, 0),
            hot_bytes=hot_bytes,
        )

    async def _hot_frames(self, state: StreamState) -> list[Frame]:
        frames: list[Frame] = []
        size, wanted = 0, state.durable_lines
        while size < segments.SEGMENT_MAX_BYTES:
            page = await self._tail.read(state.attempt_id, wanted)
            if not page:
                break
            frames += page
            size += sum(len(frame.payload) for frame in page)
            wanted = page[-1].end
        if not frames:
            return []
        if frames[0].header.first != state.durable_lines:
            # Part of the tail is gone. What is left cannot be archived without a gap: ask the worker again.
            _log.warning(
                "log_tail_incomplete",
                attempt_id=str(state.attempt_id),
                durable=state.durable_lines,
                found=frames[0].header.first,
            )
            await self._tail.forget(state.attempt_id)
            return []
        return _up_to(frames, segments.SEGMENT_MAX_BYTES)

    async def _settle(
        self, due: Sequence[DirtyAttempt], states: dict[UUID, StreamState], written: dict[UUID, _Flush]
    ) -> None:
        now = self._clock.now().timestamp()
        for attempt in due:
            flush = written.get(attempt.attempt_id)
            state = states.get(attempt.attempt_id)
            durable = flush.segment.end_line if flush else state.durable_lines if state else 0
            clean = await self._tail.settle(attempt.attempt_id, durable, flush.hot_bytes if flush else 0, now)
            if clean and attempt.ended:
                await self._tail.let_go(attempt.attempt_id)
            elif flush is not None:
                await self._tail.trim(attempt.attempt_id, durable, KEPT_FRAMES)


def _is_due(attempt: DirtyAttempt, now: float) -> bool:
    return (
        attempt.ended
        or attempt.pending_bytes >= segments.SEGMENT_MIN_BYTES
        or now - attempt.since >= FLUSH_AFTER_SECONDS
    )


def _up_to(frames: Sequence[Frame], limit: int) -> list[Frame]:
    taken: list[Frame] = []
    size = 0
    for frame in frames:
        if taken and size + len(frame.payload) > limit:
            break
        taken.append(frame)
        size += len(frame.payload)
    return taken
