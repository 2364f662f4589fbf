"""How log-relay starts."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from slipway_db import LoopRunner, MigrationSpec, check_schema, described_only, health_router
from slipway_kit.app import create_app
from slipway_kit.auth import ServiceVerifier, require_service
from slipway_kit.errors import ErrorStyle
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_logs.archive.loops import ArchiveLoop
from slipway_logs.context import Factory, LogsContext, open_context
from slipway_logs.ingest import api as ingest_api
from slipway_logs.metadata import api as metadata_api
from slipway_logs.replicas import api as replicas_api
from slipway_logs.retention.loops import RetentionLoop
from slipway_logs.settings import LogsSettings
from slipway_logs.tail import api as tail_api
from slipway_logs.usage import api as usage_api
from slipway_schemas.health import ServiceHealth

MIGRATIONS = MigrationSpec(
    service="logs",
    schema="logs",
    script_location="slipway_logs:migrations",
    views=("metadata_latest_v1", "log_total_v1", "cursor_v1"),
)


def build_apps(context: LogsContext) -> Apps:
    """The three apps: chunks from workers, reads by services, live streams for people."""
    factory = Factory(context)

    async def health() -> ServiceHealth:
        return await context.health.report(ready(context), factory.figures)

    return _apps(context.metrics.service, context.verifier, factory, health)


def schema_apps() -> Apps:
    """The same apps without anything behind them, for their OpenAPI."""
    return _apps(ServiceMetrics(CollectorRegistry(), "logs"), ServiceVerifier("logs", {}), None, described_only)


def _apps(
    metrics: ServiceMetrics,
    verifier: ServiceVerifier,
    factory: Factory | None,
    health: Callable[[], Awaitable[ServiceHealth]],
) -> Apps:
    def app(title: str) -> FastAPI:
        made = create_app(title, style=ErrorStyle.PROBLEM, metrics=metrics)
        made.state.factory = factory
        return made

    workers = app("Slipway log-relay, workers")
    workers.include_router(ingest_api.router)
    workers.include_router(usage_api.workers)
    internal = app("Slipway log-relay, internal")
    only_gateway = [Depends(require_service(verifier, "gateway"))]
    internal.include_router(tail_api.internal, dependencies=only_gateway)
    internal.include_router(metadata_api.router, dependencies=only_gateway)
    internal.include_router(health_router(health), dependencies=only_gateway)
    internal.include_router(usage_api.internal, dependencies=only_gateway)
    internal.include_router(replicas_api.reading, dependencies=only_gateway)
    internal.include_router(replicas_api.writing, dependencies=[Depends(require_service(verifier, "builder"))])
    public = app("Slipway log-relay")
    public.include_router(replicas_api.public)
    public.include_router(tail_api.public)
    return Apps(public=public, workers=workers, internal=internal)


def background(context: LogsContext) -> Sequence[BackgroundTask]:
    """The archive, retention, metadata commits, events."""
    factory = Factory(context)
    settings = context.settings.retention
    loops = LoopRunner(
        context.db,
        context.doorbell,
        [
            ArchiveLoop(factory.archive()),
            RetentionLoop(
                context.db,
                context.object_store,
                context.clock,
                settings.keep_days,
                timedelta(days=settings.deleted_days),
            ),
        ],
        poll_seconds=0.5,
    )
    return [
        context.doorbell.background_task(),
        context.health.watch(loops).background_task(),
        BackgroundTask("metadata commits", context.metadata_writer.run),
        BackgroundTask("usage commits", context.usage_writer.run),
        factory.consumer().background_task(),
    ]


def ready(context: LogsContext) -> Sequence[ReadyCheck]:
    """Postgres with the right schema, and Redis."""

    async def redis() -> None:
        await context.redis.ping()

    async def schema() -> None:
        await check_schema(context.db, MIGRATIONS)

    return [ReadyCheck("database", schema), ReadyCheck("redis", redis)]


def metrics(context: LogsContext) -> ServiceMetrics:
    """The service's metrics."""
    return context.metrics.service


SPEC: ServiceSpec[LogsSettings, LogsContext] = ServiceSpec(
    name="logs",
    settings=LogsSettings,
    context=open_context,
    apps=build_apps,
    background=background,
    ready=ready,
    metrics=metrics,
    schema_apps=schema_apps,
)
