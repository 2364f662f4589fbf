"""Taking a worker's chunks: lines into the hot tail, metadata records into Postgres."""

from collections.abc import Sequence

from slipway_db.database import Database
from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict, Unavailable
from slipway_logs.archive.store import ArchiveStore, StreamState
from slipway_logs.frames import Frame
from slipway_logs.ingest.access import AttemptAccess
from slipway_logs.ingest.hot_tail import Appended, HotTail
from slipway_logs.metadata.writer import MetadataWriter
from slipway_schemas.logs import LogsAnswer, LogStream
from slipway_schemas.tokens import AttemptClaims

_RESTORE_TRIES = 3


class IngestService:
    """Appends what is wanted next and answers with what is wanted after that."""

    def __init__(
        self, db: Database, tail: HotTail, metadata: MetadataWriter, access: AttemptAccess, clock: Clock
    ) -> None:
        self._db = db
        self._tail = tail
        self._metadata = metadata
        self._access = access
        self._clock = clock

    async def take(self, claims: AttemptClaims, frames: Sequence[Frame]) -> LogsAnswer:
        """Take the frames that follow on what is there; others are answered with the line to continue at.

        Raises `Superseded` when the attempt is not the current one, and `Conflict` when it has ended and still sends.
        """
        standing = await self._access.standing(claims)
        if frames and standing.ended:
            raise Conflict("The attempt has ended; its log is closed.", code="ended")
        lines = [frame for frame in frames if frame.header.stream != LogStream.METADATA]
        records = [frame for frame in frames if frame.header.stream == LogStream.METADATA]
        position = await self._append(claims, lines) if lines else await self._position(claims)
        metadata_next = await self._metadata.write(claims, records)
        return LogsAnswer(next=position.next, durable=position.durable, metadata_next=metadata_next)

    async def _position(self, claims: AttemptClaims) -> Appended:
        known = await self._tail.position(claims.attempt_id)
        if known is not None:
            return known
        state = await self._open(claims)
        return Appended(next=state.durable_lines, taken=0, durable=state.durable_lines)

    async def _append(self, claims: AttemptClaims, frames: list[Frame]) -> Appended:
        for _ in range(_RESTORE_TRIES):
            appended = await self._tail.append(claims.attempt_id, frames, self._clock.now().timestamp())
            if appended is not None:
                return appended
            state = await self._open(claims)
            await self._tail.restore(claims.attempt_id, state.durable_lines, state.last_time_us)
        raise Unavailable("The log tail keeps losing its state; is the Redis server evicting keys?")

    async def _open(self, claims: AttemptClaims) -> StreamState:
        async with self._db.transaction() as session:
            return await ArchiveStore(session).open_stream(claims.attempt_id, claims.execution_id, claims.number)
