"""The event consumer: the cursor is committed with the effect, which is all the deduplication there is."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_events import streams
from slipway_events.deadletter import DeadLetters
from slipway_kit.logging import get_logger
from slipway_kit.service import BackgroundTask
from slipway_schemas.events import EventEnvelope

Handler = Callable[[AsyncSession, EventEnvelope], Awaitable[None]]
"""Applies one event inside the consumer's transaction; makes no network calls; raises to have it tried again."""

BATCH = 200
BLOCK_SECONDS = 1.0
RECHECK_SECONDS = 10.0
DEAD_LETTER_LIMIT = 1000

_CURSOR = text(
    "INSERT INTO cursors (consumer, publisher, position) VALUES (:consumer, :publisher, 0) ON CONFLICT DO NOTHING"
)
_LOCK_CURSOR = text("SELECT position FROM cursors WHERE consumer = :consumer FOR UPDATE")
_ADVANCE = text("UPDATE cursors SET position = :position WHERE consumer = :consumer")


class EventConsumer:
    """Consumes one publisher's events under a name that is unique in the consuming schema.

    It follows the stream while that is complete, and reads the publisher's view `event_v1` where it is empty, reset
    or gapped, and while Redis is away. Replicas take turns by the lock on the cursor. When more than
    `DEAD_LETTER_LIMIT` events wait or were parked within an hour it stops and says so: a bad deploy then halts
    instead of emptying the stream into the dead letters.
    """

    def __init__(
        self,
        db: Database,
        redis: Redis,
        name: str,
        publisher: str,
        handlers: Mapping[str, Handler],
        *,
        block_seconds: float = BLOCK_SECONDS,
        recheck_seconds: float = RECHECK_SECONDS,
        first_pause: float = 0.2,
        dead_letter_limit: int = DEAD_LETTER_LIMIT,
    ) -> None:
        self._db = db
        self._redis = redis
        self._name = name
        self._publisher = publisher
        self._handlers = dict(handlers)
        self._block_seconds = block_seconds
        self._recheck_seconds = recheck_seconds
        self._dead_letter_limit = dead_letter_limit
        self._dead = DeadLetters(name, first_pause=first_pause)
        self._view = text(
            "SELECT position, id, name, key, actor, occurred_at, payload"  # noqa: S608
            f" FROM {publisher}_pub.event_v1 WHERE position > :after ORDER BY position LIMIT :batch"
        )

    def background_task(self) -> BackgroundTask:
        """The task that the supervisor runs."""
        return BackgroundTask(name=f"event consumer {self._name}", run=self.run)

    async def run(self) -> None:
        """Consume until cancelled. Database errors are raised: the supervisor starts it again."""
        time = asyncio.get_running_loop().time
        seen = await self.catch_up()
        checked = time()
        while True:
            await self.retry_due()
            try:
                batch = await streams.read(
                    self._redis, self._publisher, after=seen, limit=BATCH, block_seconds=self._block_seconds
                )
            except (RedisError, OSError) as error:
                get_logger().warning("event_stream_unreachable", consumer=self._name, error=type(error).__name__)
                await asyncio.sleep(self._block_seconds)
                seen = await self.catch_up()
                continue
            if batch and _contiguous(seen, batch):
                cursor = await self.apply(batch)
                behind = cursor < batch[-1].position  # only when the cursor was moved back from outside
                seen = await self.catch_up() if behind else batch[-1].position
            elif batch:
                # What the stream lacks is in the view. What the view lacks, too, is gone for good reason: trimmed.
                seen = max(await self.catch_up(), batch[-1].position)
            elif time() - checked >= self._recheck_seconds:
                checked = time()
                seen = await self.catch_up()

    async def catch_up(self) -> int:
        """Handle what the publisher's view holds beyond the cursor; returns the cursor."""
        cursor = await self._cursor()
        while True:
            async with self._db.read() as session:
                rows = (await session.execute(self._view, {"after": cursor, "batch": BATCH})).mappings().all()
            if not rows:
                return cursor
            batch = [EventEnvelope.model_validate({**row, "publisher": self._publisher}) for row in rows]
            cursor = await self.apply(batch)

    async def _cursor(self) -> int:
        async with self._db.transaction() as session:
            await session.execute(_CURSOR, {"consumer": self._name, "publisher": self._publisher})
            return await self._lock(session)

    async def _lock(self, session: AsyncSession) -> int:
        return int(await session.scalar(_LOCK_CURSOR, {"consumer": self._name}) or 0)

    async def apply(self, batch: Sequence[EventEnvelope]) -> int:
        """Handle a batch that has no gaps, in one transaction; one by one when that fails. Returns the cursor."""
        await self._hold_while_too_many_fail()
        try:
            return await self._apply(batch)
        except Exception as error:  # noqa: BLE001 - the handlers' errors can be anything
            if len(batch) > 1:
                cursor = 0
                for envelope in batch:
                    cursor = await self.apply([envelope])
                return cursor
            return await self._set_aside(batch[0], error)

    async def _apply(self, batch: Sequence[EventEnvelope]) -> int:
        async with self._db.transaction() as session:
            cursor = await self._lock(session)
            fresh = [envelope for envelope in batch if envelope.position > cursor]
            if not fresh:
                return cursor
            waiting = await self._dead.waiting_keys(session)
            for envelope in fresh:
                if envelope.name not in self._handlers:
                    continue
                if envelope.key in waiting:
                    await self._dead.put(session, envelope, None)
                else:
                    await self._handlers[envelope.name](session, envelope)
            await self._advance(session, fresh[-1])
            return fresh[-1].position

    async def _set_aside(self, envelope: EventEnvelope, error: Exception) -> int:
        get_logger().warning(
            "event_failed", consumer=self._name, event_name=envelope.name, position=envelope.position, error=repr(error)
        )
        async with self._db.transaction() as session:
            cursor = await self._lock(session)
            if envelope.position <= cursor:
                return cursor
            await self._dead.put(session, envelope, repr(error))
            await self._advance(session, envelope)
        return envelope.position

    async def _advance(self, session: AsyncSession, envelope: EventEnvelope) -> None:
        await session.execute(_ADVANCE, {"consumer": self._name, "position": envelope.position})

    async def retry_due(self) -> int:
        """Try the failed events whose pause is over, in order; returns how many went through."""
        handled = after = 0
        while True:
            async with self._db.read() as session:
                due = await self._dead.next_due(session, after)
            if due is None:
                return handled
            envelope, tries = due
            if await self._retry(envelope, tries):
                handled, after = handled + 1, 0
            else:
                after = envelope.position

    async def _retry(self, envelope: EventEnvelope, tries: int) -> bool:
        try:
            async with self._db.transaction() as session:
                await self._lock(session)
                still = await self._dead.next_due(session, envelope.position - 1)
                if still is None or still[0].position != envelope.position:
                    return False  # another replica dealt with it
                handler = self._handlers.get(envelope.name)
                if handler is not None:
                    await handler(session, envelope)
                await self._dead.handled(session, envelope)
        except Exception as error:  # noqa: BLE001 - the handlers' errors can be anything
            async with self._db.transaction() as session:
                parked = await self._dead.failed(session, envelope, tries, repr(error))
            if parked:
                get_logger().error(
                    "event_parked",
                    consumer=self._name,
                    event_name=envelope.name,
                    position=envelope.position,
                    error=repr(error),
                )
            return False
        return True

    async def _hold_while_too_many_fail(self) -> None:
        while True:
            async with self._db.read() as session:
                recent = await self._dead.recent(session)
            if recent < self._dead_letter_limit:
                return
            get_logger().error("event_consumer_held", consumer=self._name, dead_letters=recent)
            await asyncio.sleep(self._block_seconds)
            await self.retry_due()


def _contiguous(seen: int, batch: Sequence[EventEnvelope]) -> bool:
    return [envelope.position for envelope in batch] == list(range(seen + 1, seen + 1 + len(batch)))
