"""Reading lines by number: one function for running and finished attempts (design section 4, 'A log line')."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from slipway_db.database import Database
from slipway_kit.errors import Unavailable
from slipway_logs.archive import segments
from slipway_logs.archive.store import ArchiveStore, Segment
from slipway_logs.frames import Frame
from slipway_logs.ingest.hot_tail import HotTail
from slipway_storage import ObjectStore

_SMALL_SEGMENT_BYTES = 64 * 1024
_SEAM_TRIES = 5


class LogReader:
    """Merges the archive and the hot tail by line number."""

    def __init__(self, db: Database, tail: HotTail, store: ObjectStore) -> None:
        self._db = db
        self._tail = tail
        self._store = store

    async def frames(
        self, attempt_id: UUID, first_line: int = 0, *, durable_only: bool = False
    ) -> AsyncIterator[Frame]:
        """Frames that hold line `first_line` or later ones, in order, up to what is there now.

        While this reads, lines move from the tail into the archive: when the tail starts later than wanted, the
        archive is asked again.
        """
        wanted = first_line
        for _ in range(_SEAM_TRIES):
            async for frame in self._archived(attempt_id, wanted):
                yield frame
                wanted = frame.end
            if durable_only:
                return
            while page := await self._tail.read(attempt_id, wanted):
                if page[0].header.first > wanted:
                    break
                for frame in page:
                    yield frame
                wanted = page[-1].end
            else:
                return
        raise Unavailable(f"The log of attempt {attempt_id} is moving faster than it can be read; try again.")

    async def status_frames(self, attempt_id: UUID) -> AsyncIterator[Frame]:
        """Frames that may hold status lines, from archived segments that do and from the hot tail."""
        async with self._db.read() as session:
            store = ArchiveStore(session)
            index = await store.segments(attempt_id, with_status=True)
            states = await store.streams([attempt_id])
        for segment in index:
            for frame in await self.load(segment):
                yield frame
        durable = states[attempt_id].durable_lines if attempt_id in states else 0
        async for frame in self.frames(attempt_id, durable):
            yield frame

    async def line_count(self, attempt_id: UUID) -> int:
        """How many lines there are now."""
        hot = await self._tail.next_line(attempt_id)
        if hot is not None:
            return hot
        async with self._db.read() as session:
            states = await ArchiveStore(session).streams([attempt_id])
        return states[attempt_id].durable_lines if attempt_id in states else 0

    async def _archived(self, attempt_id: UUID, first_line: int) -> AsyncIterator[Frame]:
        async with self._db.read() as session:
            index = await ArchiveStore(session).segments(attempt_id, first_line)
        for segment in index:
            for frame in await self.load(segment):
                if frame.end > first_line:
                    yield frame

    async def load(self, segment: Segment) -> list[Frame]:
        """The frames of a segment."""
        data = segment.inline
        if data is None:
            data = await self._store.get(segment.object_key or "")
        if segment.raw_bytes <= _SMALL_SEGMENT_BYTES:
            return segments.decode(data)
        return await asyncio.to_thread(segments.decode, data)
