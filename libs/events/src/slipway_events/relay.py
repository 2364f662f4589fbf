"""The outbox relay: gives committed events their position and copies them to the publisher's stream."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy import TextClause, text

from slipway_db import Database, Doorbell, Loop, LoopRunner, outbox_channel
from slipway_events import streams
from slipway_kit.logging import get_logger
from slipway_kit.service import BackgroundTask
from slipway_schemas.events import EventEnvelope

BATCH = 500
KEEP_IN_STREAM = 10_000
KEEP_ROWS_DAYS = 7
CHECK_SECONDS = 1.0
TRIM_SECONDS = 300.0

# The lock and the update are two statements on purpose: the second one's snapshot is taken after the lock, so it
# sees every position that an earlier relay has committed.
_LOCK_HEAD = text("SELECT position FROM outbox_head FOR UPDATE SKIP LOCKED")
_PLACE = text(
    "WITH batch AS (SELECT id, row_number() OVER (ORDER BY seq) AS n FROM"
    " (SELECT id, seq FROM outbox WHERE position IS NULL ORDER BY seq LIMIT :batch) AS unplaced),"
    " placed AS (UPDATE outbox SET position = :head + batch.n FROM batch WHERE outbox.id = batch.id RETURNING 1)"
    " UPDATE outbox_head SET position = :head + (SELECT count(*) FROM placed) RETURNING position"
)
_ROWS = text(
    "SELECT id, name, position, key, actor, occurred_at, payload FROM outbox"
    " WHERE position > :after ORDER BY position LIMIT :batch"
)
_TRIM = text(
    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE position <= :passed"
    " AND occurred_at < now() - make_interval(days => :days) ORDER BY position LIMIT :batch)"
)


@dataclass(frozen=True)
class ConsumerRef:
    """A consumer that the catalogue names: the schema of its service, and its own name there."""

    schema: str
    name: str


class EventRelay:
    """Publishes the events of one schema. Any number of replicas may run; one of them works at a time.

    Redis holds a tail of `keep` events and nothing else: when it loses some, they are added again if they still are
    the newest, and consumers read the rest from the view.
    """

    def __init__(
        self,
        db: Database,
        redis: Redis,
        publisher: str,
        *,
        consumers: Sequence[ConsumerRef] = (),
        keep: int = KEEP_IN_STREAM,
    ) -> None:
        self._db = db
        self._redis = redis
        self._publisher = publisher
        self._consumers = tuple(consumers)
        self._keep = keep

    def loops(self) -> Sequence[Loop]:
        """The loops to hand to the service's own `LoopRunner`, which then polls for them too."""
        return (_Publish(self), _Check(self), _Trim(self))

    def background_task(self, doorbell: Doorbell | None = None) -> BackgroundTask:
        """The relay as a task of its own, for a service that runs no other loops."""
        runner = LoopRunner(self._db, doorbell, self.loops())
        return BackgroundTask(name=f"event relay {self._publisher}", run=runner.run)

    @property
    def schema(self) -> str:
        """Schema that holds the outbox."""
        return self._db.schema

    async def publish(self) -> int:
        """Place one batch and bring the stream up to date; returns how many events got a position."""
        placed = await self._place()
        await self.send()
        return placed

    async def _place(self) -> int:
        async with self._db.transaction() as session:
            head = await session.scalar(_LOCK_HEAD)
            if head is None:
                return 0  # another replica is at it
            placed = await session.scalar(_PLACE, {"head": head, "batch": BATCH})
        return int(placed or head) - int(head)

    async def send(self) -> int:
        """Copy to the stream what it lacks of the tail; returns how many events that were."""
        # Asked before the head is read: what is in Redis was committed before, so a stream that is ahead of the
        # head stems from another life of the database.
        last = await streams.last_position(self._redis, self._publisher)
        async with self._db.read() as session:
            head = int(await session.scalar(text("SELECT position FROM outbox_head")) or 0)
        if last is not None and last > head:
            get_logger().warning("event_stream_reset", publisher=self._publisher, stream=last, head=head)
            await self._redis.delete(streams.stream_of(self._publisher))
            last = None
        after = max(last or 0, head - self._keep)
        sent = 0
        while after < head:
            envelopes = await self._rows(after)
            if not envelopes:
                break
            await streams.add(self._redis, self._publisher, envelopes, keep=self._keep)
            after = envelopes[-1].position
            sent += len(envelopes)
        return sent

    async def _rows(self, after: int) -> list[EventEnvelope]:
        async with self._db.read() as session:
            rows = (await session.execute(_ROWS, {"after": after, "batch": BATCH})).mappings().all()
        return [EventEnvelope.model_validate({**row, "publisher": self._publisher}) for row in rows]

    async def trim(self) -> int:
        """Delete a batch of rows that every consumer has passed and that are older than 7 days."""
        async with self._db.transaction() as session:
            passed = await session.scalar(text("SELECT position FROM outbox_head"))
            for schema in {consumer.schema for consumer in self._consumers}:
                cursors = await session.execute(
                    text(f"SELECT consumer, position FROM {schema}_pub.cursor_v1 WHERE publisher = :publisher"),  # noqa: S608
                    {"publisher": self._publisher},
                )
                positions: dict[str, int] = {row.consumer: row.position for row in cursors}
                for consumer in self._consumers:
                    if consumer.schema == schema:
                        # One that has never started has passed nothing.
                        passed = min(passed or 0, positions.get(consumer.name, 0))
            deleted = await session.execute(
                _TRIM,
                {"passed": passed or 0, "days": KEEP_ROWS_DAYS, "batch": BATCH},
            )
            return int(getattr(deleted, "rowcount", 0))


class _RelayLoop:
    due: TextClause | None = None
    channel: str | None = None

    def __init__(self, relay: EventRelay) -> None:
        self.relay = relay


class _Publish(_RelayLoop):
    name = "events_publish"
    due = text("EXISTS (SELECT FROM outbox WHERE position IS NULL)")

    def __init__(self, relay: EventRelay) -> None:
        super().__init__(relay)
        self.channel = outbox_channel(relay.schema)

    async def run(self) -> int:
        return await self.relay.publish()


class _Check(_RelayLoop):
    """Notices within a second that Redis has lost the tail."""

    name = "events_check"
    interval = CHECK_SECONDS

    async def run(self) -> int:
        await self.relay.send()
        return 0


class _Trim(_RelayLoop):
    name = "events_trim"
    interval = TRIM_SECONDS

    async def run(self) -> int:
        return await self.relay.trim()
