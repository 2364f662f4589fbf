"""What the process holds, and how services are made from it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.aliases.service import AliasService
from slipway_builder.database import MIGRATIONS, SCHEMA
from slipway_builder.deployments.service import DeploymentService
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.images.builders.docker_engine import Engine
from slipway_builder.images.for_targets import BuildersOfTargets
from slipway_builder.images.options import BuilderOptions
from slipway_builder.keys.service import KeyService
from slipway_builder.materials import MaterialsClient
from slipway_builder.observe.log_relay import LogRelayClient
from slipway_builder.routing.desk import RoutingDesk
from slipway_builder.settings import BuilderSettings, DockerTargetSettings
from slipway_builder.targets.docker.images import HostImages
from slipway_builder.targets.docker.target import DockerTarget
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.process.target import ProcessTarget
from slipway_builder.targets.service import TargetService
from slipway_builder.upkeep.service import UpkeepService
from slipway_builder.versions.service import VersionService
from slipway_builder.work_folders import WorkFolder
from slipway_db import Database, Doorbell, HealthBoard, check_schema
from slipway_events import connect_redis
from slipway_kit.auth import ServiceSigner, ServiceVerifier, acting_user
from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import SlipwayError
from slipway_kit.http import Neighbour
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import load_private, load_trusted
from slipway_kit.logging import get_logger
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.tasks import run_blocking
from slipway_kit.transfer import ClientSession, transfer_session
from slipway_kit.vault import Vault
from slipway_schemas.inference.statuses import TargetKind

NAME = "builder"


@dataclass(frozen=True)
class Factory:
    """Makes services for a unit of work."""

    db: Database
    desk: RoutingDesk
    pool: TargetPool
    vault: Vault
    clock: Clock
    upkeep: UpkeepService

    def deployments(self, session: AsyncSession) -> DeploymentService:
        """Use cases of deployments."""
        return DeploymentService(session)

    def versions(self, session: AsyncSession) -> VersionService:
        """Use cases of versions."""
        return VersionService(session, self.clock)

    def endpoints(self, session: AsyncSession) -> EndpointService:
        """Use cases of endpoints."""
        return EndpointService(session)

    def aliases(self, session: AsyncSession) -> AliasService:
        """Use cases of aliases."""
        return AliasService(session)

    def keys(self, session: AsyncSession) -> KeyService:
        """Use cases of keys."""
        return KeyService(session)

    def targets(self, session: AsyncSession) -> TargetService:
        """Use cases of targets."""
        return TargetService(session, self.vault)


@dataclass(frozen=True)
class BuilderContext:
    """Clients, pools and keys of one builder process."""

    settings: BuilderSettings
    db: Database
    redis: Redis
    doorbell: Doorbell
    verifier: ServiceVerifier
    materials: MaterialsClient
    relay: LogRelayClient
    transfers: ClientSession
    builders: BuildersOfTargets
    work: WorkFolder
    factory: Factory
    clock: Clock
    metrics: ServiceMetrics
    health: HealthBoard

    async def database_answers(self) -> None:
        """Raise when Postgres does not answer."""
        async with self.db.read() as session, asyncio.timeout(5):
            await session.execute(text("SELECT 1"))


@asynccontextmanager
async def open_context(settings: BuilderSettings) -> AsyncIterator[BuilderContext]:
    """Open what the builder holds. Raises `SchemaMismatch` when the schema is not this build's."""
    clock = SystemClock()
    signer = ServiceSigner(NAME, load_private(settings.keys.private_key_file), clock)
    verifier = ServiceVerifier(NAME, load_trusted(settings.keys.trusted_keys_dir))
    async with AsyncExitStack() as stack:
        db = Database(settings.database.url.get_secret_value(), schema=SCHEMA, pool_size=settings.database.pool_size)
        stack.push_async_callback(db.close)
        redis = connect_redis(settings.redis.url.get_secret_value())
        stack.push_async_callback(redis.aclose)
        await check_schema(db, MIGRATIONS)
        gateway = await stack.enter_async_context(Neighbour(settings.neighbours.gateway or "", signer, "gateway"))
        relay = await stack.enter_async_context(Neighbour(settings.neighbours.logs or "", signer, "logs"))
        transfers = await stack.enter_async_context(transfer_session())
        if settings.process is not None and settings.process.ends_with_builder:
            stack.push_async_callback(ProcessTarget(settings.process.home).end_all)
        if settings.docker is not None and settings.docker.ends_with_builder:
            stack.push_async_callback(_end_containers, settings.docker)
        vault = Vault(KeyRing(settings.secret_key_file, settings.older_secret_keys_dir))
        pool = TargetPool(_of_this_installation(settings), vault)
        stack.push_async_callback(pool.aclose)
        work = WorkFolder(settings.work_dir)
        stack.push_async_callback(run_blocking, work.close)
        options = _builder_options(settings, work)
        engine = Engine(options.docker_socket, options.docker_network, options.installation)
        stack.push_async_callback(engine.aclose)
        builders = BuildersOfTargets(db, pool, HostImages(engine, work), options)
        stack.push_async_callback(builders.aclose)
        doorbell = Doorbell(db)
        upkeep = UpkeepService(db, pool, engine, work, settings.lease_seconds)
        yield BuilderContext(
            settings=settings,
            db=db,
            redis=redis,
            doorbell=doorbell,
            verifier=verifier,
            materials=MaterialsClient(gateway),
            relay=LogRelayClient(relay),
            transfers=transfers,
            builders=builders,
            work=work,
            factory=Factory(db, RoutingDesk(db, doorbell, clock), pool, vault, clock, upkeep),
            clock=clock,
            metrics=ServiceMetrics(CollectorRegistry(), NAME),
            health=HealthBoard(NAME, version("slipway-inference-builder"), db, clock),
        )


async def _end_containers(settings: DockerTargetSettings) -> None:
    if not settings.socket.exists():
        return
    target = DockerTarget(settings.socket, settings.installation)
    try:
        await target.end_all()
    except SlipwayError as error:
        get_logger().warning("containers_not_ended", error=error.message)
    finally:
        await target.aclose()


def _builder_options(settings: BuilderSettings, work: WorkFolder) -> BuilderOptions:
    docker = settings.docker
    if docker is None:
        installation = hashlib.sha256(_mark(settings).encode()).hexdigest()[:16]
        return BuilderOptions(work_dir=work.path, installation=installation)
    return BuilderOptions(
        work_dir=work.path,
        docker_socket=docker.socket,
        docker_network=docker.network,
        installation=docker.installation,
    )


def _mark(settings: BuilderSettings) -> str:
    """What all builders of this installation have in common, and nobody else can guess."""
    return hashlib.blake2b(settings.keys.private_key_file.read_bytes(), person=b"secret-marks").hexdigest()


def _of_this_installation(settings: BuilderSettings) -> dict[str, dict[str, Any]]:
    kinds = {TargetKind.PROCESS: settings.process, TargetKind.DOCKER: settings.docker}
    found: dict[str, dict[str, Any]] = {TargetKind.KUBERNETES: {"key": _mark(settings)}}
    return found | {kind: local.model_dump(mode="json") for kind, local in kinds.items() if local is not None}


def _factory(request: Request) -> Factory:
    factory = request.app.state.factory
    if not isinstance(factory, Factory):
        raise TypeError("The app was built without a context.")
    return factory


Services = Annotated[Factory, Depends(_factory)]
Actor = Annotated[int | None, Depends(acting_user)]
