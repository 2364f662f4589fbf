"""What the service holds while it runs, and how its parts are made from that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from fastapi import Request
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from slipway_db import Database, Doorbell, HealthBoard
from slipway_events import EventConsumer, connect_redis
from slipway_kit.auth import AttemptVerifier, ServiceVerifier
from slipway_kit.clock import Clock, SystemClock
from slipway_kit.keys import KeyFileError, load_trusted, read_pepper
from slipway_kit.metrics import ServiceMetrics
from slipway_logs.access import UserAccess
from slipway_logs.archive.reader import LogReader
from slipway_logs.archive.service import ArchiveService
from slipway_logs.ingest.access import AttemptAccess
from slipway_logs.ingest.hot_tail import HotTail
from slipway_logs.ingest.service import IngestService
from slipway_logs.metadata.service import MetadataService
from slipway_logs.metadata.writer import MetadataWriter
from slipway_logs.metrics import LogsMetrics
from slipway_logs.replicas.service import ReplicaLogService
from slipway_logs.retention.consumers import scheduler_events
from slipway_logs.settings import LogsSettings
from slipway_logs.tail.hub import TailHub
from slipway_logs.tail.service import TailService
from slipway_logs.usage.service import UsageService
from slipway_logs.usage.writer import UsageWriter
from slipway_storage import ObjectStore, open_store


@dataclass(frozen=True)
class LogsContext:
    """Singletons of the process; opened by `open_context`."""

    settings: LogsSettings
    db: Database
    redis: Redis
    object_store: ObjectStore
    clock: Clock
    metrics: LogsMetrics
    user_pepper: str
    verifier: ServiceVerifier
    attempts: AttemptVerifier
    metadata_writer: MetadataWriter
    usage_writer: UsageWriter
    doorbell: Doorbell
    health: HealthBoard


class Factory:
    """Makes the parts of the service from the context."""

    def __init__(self, context: LogsContext) -> None:
        self._context = context
        self._hot_tail = HotTail(context.redis)
        self._reader = LogReader(context.db, self._hot_tail, context.object_store)
        self.attempt_access = AttemptAccess(context.db, context.attempts)
        self.hub = TailHub(self._hot_tail, self.tail())

    def ingest(self) -> IngestService:
        """Takes chunks of workers."""
        context = self._context
        return IngestService(
            context.db,
            self._hot_tail,
            context.metadata_writer,
            self.attempt_access,
            context.clock,
            context.metrics,
        )

    def archive(self) -> ArchiveService:
        """Moves lines into the log store."""
        context = self._context
        return ArchiveService(
            context.db,
            self._hot_tail,
            context.object_store,
            context.clock,
            context.metrics,
            flush_after_seconds=context.settings.archive.flush_after_seconds,
        )

    def tail(self) -> TailService:
        """Reads logs of executions."""
        return TailService(self._context.db, self._reader)

    def replicas(self) -> ReplicaLogService:
        """Reads logs of endpoints."""
        return ReplicaLogService(self._context.db, self._reader)

    def metadata(self) -> MetadataService:
        """Reads metadata series."""
        return MetadataService(self._context.db)

    def usage(self) -> UsageService:
        """Takes and reads usage series."""
        return UsageService(self._context.db, self._context.usage_writer, self.attempt_access)

    def user_access(self) -> UserAccess:
        """Checks the users of the public app."""
        return UserAccess(self._context.db, self._context.user_pepper, self._context.clock)

    async def figures(self) -> dict[str, float]:
        """What operators look at: attempts whose lines are not in the store yet."""
        return {"undurable_attempts": float(await self._hot_tail.undurable())}

    def consumer(self) -> EventConsumer:
        """Consumes the scheduler's events."""
        context = self._context
        purge_after = timedelta(days=context.settings.retention.deleted_days)
        return scheduler_events(context.db, context.redis, context.clock, purge_after)


def factory_of(request: Request) -> Factory:
    """The factory of the app that answers this request."""
    factory = request.app.state.factory
    if not isinstance(factory, Factory):
        raise TypeError("The app was built without its factory.")
    return factory


@asynccontextmanager
async def open_context(settings: LogsSettings) -> AsyncIterator[LogsContext]:
    """Open what the service holds, close it at the end."""
    trusted = load_trusted(settings.keys.trusted_keys_dir)
    if "scheduler" not in trusted:
        raise KeyFileError(f"{settings.keys.trusted_keys_dir} has no scheduler.pub.pem, which attempt tokens need.")
    user_pepper = read_pepper(settings.token_pepper_file)
    metrics = LogsMetrics(ServiceMetrics(CollectorRegistry(), "logs"))
    db = Database(settings.database.url.get_secret_value(), schema="logs", pool_size=settings.database.pool_size)
    redis = connect_redis(settings.redis.url.get_secret_value())
    store = open_store(settings.store)
    try:
        yield LogsContext(
            settings=settings,
            db=db,
            redis=redis,
            object_store=store,
            clock=SystemClock(),
            metrics=metrics,
            user_pepper=user_pepper,
            verifier=ServiceVerifier("logs", trusted),
            attempts=AttemptVerifier(trusted["scheduler"]),
            metadata_writer=MetadataWriter(db, metrics),
            usage_writer=UsageWriter(db),
            doorbell=Doorbell(db),
            health=HealthBoard("logs", version("slipway-log-relay"), db, SystemClock()),
        )
    finally:
        await store.close()
        await redis.aclose()
        await db.close()
