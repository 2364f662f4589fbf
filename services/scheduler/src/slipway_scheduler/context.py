"""What the process holds, and how services are made from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database, Doorbell, HealthBoard, check_schema
from slipway_events import connect_redis
from slipway_kit.auth import AttemptSigner, ServiceVerifier, acting_user
from slipway_kit.clock import SystemClock
from slipway_kit.keys import load_private, load_trusted, read_pepper
from slipway_kit.metrics import ServiceMetrics
from slipway_scheduler.channels import WORKERS
from slipway_scheduler.database import MIGRATIONS, SCHEMA
from slipway_scheduler.dispatch.service import DispatchService
from slipway_scheduler.environments.service import EnvironmentService
from slipway_scheduler.executions.service import ExecutionService
from slipway_scheduler.settings import LeaseSettings, SchedulerSettings
from slipway_scheduler.workers.hot import SyncDesk
from slipway_scheduler.workers.hub import WorkerHub
from slipway_scheduler.workers.service import WorkerService

NAME = "scheduler"


@dataclass(frozen=True)
class Factory:
    """Makes services for a unit of work."""

    pepper: str
    leases: LeaseSettings

    def executions(self, session: AsyncSession) -> ExecutionService:
        """Use cases of executions."""
        return ExecutionService(session)

    def dispatch(self, session: AsyncSession) -> DispatchService:
        """Use cases of dispatch."""
        return DispatchService(session, self.leases.lease_seconds)

    def environments(self, session: AsyncSession) -> EnvironmentService:
        """Use cases of environments."""
        return EnvironmentService(session, self.pepper)

    def workers(self, session: AsyncSession) -> WorkerService:
        """Use cases of workers."""
        return WorkerService(session, self.pepper, self.leases)


@dataclass(frozen=True)
class SchedulerContext:
    """Clients, pools and keys of one scheduler process."""

    settings: SchedulerSettings
    db: Database
    redis: Redis
    doorbell: Doorbell
    hub: WorkerHub
    desk: SyncDesk
    verifier: ServiceVerifier
    factory: Factory
    metrics: ServiceMetrics
    health: HealthBoard

    async def database_answers(self) -> None:
        """Raise when Postgres does not answer."""
        async with self.db.read() as session, asyncio.timeout(5):
            await session.execute(text("SELECT 1"))


@asynccontextmanager
async def open_context(settings: SchedulerSettings) -> AsyncIterator[SchedulerContext]:
    """Open what the scheduler holds. Raises `SchemaMismatch` when the schema is not this build's."""
    pepper = read_pepper(settings.token_pepper_file)
    signer = AttemptSigner(load_private(settings.keys.private_key_file))
    verifier = ServiceVerifier(NAME, load_trusted(settings.keys.trusted_keys_dir))
    db = Database(settings.database.url.get_secret_value(), schema=SCHEMA, pool_size=settings.database.pool_size)
    redis = connect_redis(settings.redis.url.get_secret_value())
    try:
        await check_schema(db, MIGRATIONS)
        hub = WorkerHub()
        doorbell = Doorbell(db)
        doorbell.subscribe(WORKERS, hub.wake_all)
        yield SchedulerContext(
            settings=settings,
            db=db,
            redis=redis,
            doorbell=doorbell,
            hub=hub,
            desk=SyncDesk(db, hub, signer, settings.leases),
            verifier=verifier,
            factory=Factory(pepper, settings.leases),
            metrics=ServiceMetrics(CollectorRegistry(), NAME),
            health=HealthBoard(NAME, version("slipway-scheduler"), db, SystemClock()),
        )
    finally:
        await redis.aclose()
        await db.close()


def _factory(request: Request) -> Factory:
    factory = request.app.state.factory
    if not isinstance(factory, Factory):
        raise TypeError("The app was built without a context.")
    return factory


Services = Annotated[Factory, Depends(_factory)]
Actor = Annotated[int | None, Depends(acting_user)]
