"""Events that decide how long logs are kept."""

from datetime import timedelta

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database
from slipway_events import EventConsumer, Handler
from slipway_kit.clock import Clock
from slipway_logs.archive.store import ArchiveStore
from slipway_schemas.events import EventEnvelope, ExecutionDeleted


def scheduler_events(db: Database, redis: Redis, clock: Clock, purge_after: timedelta) -> EventConsumer:
    """The consumer of the scheduler's events."""

    async def purge_later(session: AsyncSession, envelope: EventEnvelope) -> None:
        event = ExecutionDeleted.model_validate(envelope.payload)
        await ArchiveStore(session).schedule_purge(event.execution_id, clock.now() + purge_after)

    handlers: dict[str, Handler] = {ExecutionDeleted.name: purge_later}
    return EventConsumer(db, redis, "scheduler-events", ExecutionDeleted.publisher, handlers)
