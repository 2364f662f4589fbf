"""Reading lines by number: one function for running and finished attempts (design section 4, 'A log line')."""

from collections.abc import AsyncIterator
from uuid import UUID

from slipway_db.database import Database
from slipway_kit.errors import Unavailable
from slipway_logs.archive import segments
from slipway_logs.archive.store import ArchiveStore, Segment
from slipway_logs.frames import Frame, in_order
from slipway_logs.ingest.hot_tail import HotTail
from slipway_storage import ObjectStore

_SEAM_TRIES = 5


class LogReader:
    """Merges the archive and the hot tail by line number."""

    def __init__(self, db: Database, tail: HotTail, store: ObjectStore) -> None:
        self._db = db
        self._tail = tail
        self._store = store

    async def frames(self, attempt_id: UUID, first_line: int = 0) -> AsyncIterator[Frame]:
        """Frames from line `first_line` on, in order, without a gap or an overlap, up to what is there now.

        The tail comes first, since it serves whoever follows a run without any look at the archive. When it starts
        later than wanted, the archive is asked: lines move there while this reads.
        """
        wanted, last_time_us, misses = first_line, 0, 0
        while misses < _SEAM_TRIES:
            page = await self._tail.read(attempt_id, wanted)
            misses += 1
            for frame in in_order(page, wanted, last_time_us):
                yield frame
                wanted, last_time_us, misses = frame.end, frame.last_time_us, 0
            if misses == 0:
                continue
            index = await self._index(attempt_id, wanted)
            if not page and not index:
                return
            for segment in index:
                for frame in in_order(await self.load(segment), wanted, last_time_us):
                    yield frame
                    wanted, last_time_us, misses = frame.end, frame.last_time_us, 0
        raise Unavailable(f"The log of attempt {attempt_id} is moving faster than it can be read; try again.")

    async def status_frames(self, attempt_id: UUID) -> AsyncIterator[Frame]:
        """Frames that may hold status lines, from archived segments that do and from the hot tail."""
        async with self._db.read() as session:
            store = ArchiveStore(session)
            # The end of the archive first: what is added to the index after that is read from there on.
            states = await store.streams([attempt_id])
            index = await store.segments(attempt_id, with_status=True)
        durable = states[attempt_id].durable_lines if attempt_id in states else 0
        for segment in index:
            if segment.first_line < durable:
                for frame in await self.load(segment):
                    if frame.header.first < durable:
                        yield frame
        async for frame in self.frames(attempt_id, durable):
            yield frame

    async def line_count(self, attempt_id: UUID) -> int:
        """How many lines there are now."""
        hot = await self._tail.position(attempt_id)
        if hot is not None:
            return hot.next
        return await self._durable_lines(attempt_id)

    async def load(self, segment: Segment) -> list[Frame]:
        """The frames of a segment."""
        data = segment.inline
        if data is None:
            data = await self._store.get(segment.object_key or "")
        return await segments.decode_aside(data, segment.raw_bytes)

    async def _durable_lines(self, attempt_id: UUID) -> int:
        async with self._db.read() as session:
            states = await ArchiveStore(session).streams([attempt_id])
        return states[attempt_id].durable_lines if attempt_id in states else 0

    async def _index(self, attempt_id: UUID, first_line: int) -> list[Segment]:
        position = await self._tail.position(attempt_id)
        if position is not None and position.next <= first_line and position.durable <= first_line:
            return []
        async with self._db.read() as session:
            return await ArchiveStore(session).segments(attempt_id, first_line)
