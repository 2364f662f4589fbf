"""How the scheduler starts: its `ServiceSpec`."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import Depends

from slipway_db import Loop, LoopRunner, described_only, health_router, sessions
from slipway_events import ConsumerRef, EventConsumer, EventRelay
from slipway_kit.app import ServiceApp, create_app
from slipway_kit.auth import ServiceVerifier, require_service
from slipway_kit.errors import ErrorStyle
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_scheduler.context import NAME, SchedulerContext, open_context
from slipway_scheduler.dispatch.loops import DispatchLoop
from slipway_scheduler.environments.api import router as environments_router
from slipway_scheduler.executions import consumers
from slipway_scheduler.executions.api import router as executions_router
from slipway_scheduler.executions.loops import PromoteLoop
from slipway_scheduler.settings import SchedulerSettings
from slipway_scheduler.workers.api import internal_router as workers_internal_router
from slipway_scheduler.workers.api import workers_router
from slipway_scheduler.workers.hot import SYNC, SyncEndpoint
from slipway_scheduler.workers.loops import LeaseLoop
from slipway_schemas.health import ServiceHealth

INTERNAL_ROUTERS = (executions_router, environments_router, workers_internal_router)


def apps(context: SchedulerContext) -> Apps:
    """Build the apps for a context: `workers` and `internal`; the scheduler has nothing public."""
    sync = SyncEndpoint(context.desk, context.factory.pepper)
    internal, workers = _apps(context.metrics, context.verifier, lambda: context.health.report(ready(context)), sync)
    for app in (internal, workers):
        sessions(context.db).install(app)
        app.state.factory = context.factory
    return Apps(workers=workers, internal=internal)


def schema_apps() -> Apps:
    """Build the apps without a context, to print their OpenAPI."""
    internal, workers = _apps(None, ServiceVerifier(NAME, {}), described_only, None)
    return Apps(workers=workers, internal=internal)


def _apps(
    metrics: ServiceMetrics | None,
    verifier: ServiceVerifier,
    report: Callable[[], Awaitable[ServiceHealth]],
    sync: SyncEndpoint | None,
) -> tuple[ServiceApp, ServiceApp]:
    internal = create_app("Slipway scheduler, internal", style=ErrorStyle.PROBLEM, metrics=metrics)
    allowed = Depends(require_service(verifier, "gateway"))
    for router in (*INTERNAL_ROUTERS, health_router(report)):
        internal.include_router(router, dependencies=[allowed])
    workers = create_app("Slipway scheduler, workers", style=ErrorStyle.PROBLEM, metrics=metrics)
    workers.include_router(workers_router)
    workers.add_hot_route(SYNC, sync)
    return internal, workers


def loops(context: SchedulerContext, relay: EventRelay) -> Sequence[Loop]:
    """The loops of the scheduler."""
    leases = context.settings.leases
    return (
        DispatchLoop(context.db, context.hub, leases.lease_seconds),
        PromoteLoop(context.db),
        LeaseLoop(context.db, context.factory.pepper, leases),
        *relay.loops(),
    )


def background(context: SchedulerContext) -> Sequence[BackgroundTask]:
    """What runs beside requests."""
    consumers_of_events = [ConsumerRef(service, "scheduler-events") for service in ("gateway", "logs")]
    relay = EventRelay(context.db, context.redis, NAME, consumers=consumers_of_events)
    return (
        context.doorbell.background_task(),
        context.health.watch(LoopRunner(context.db, context.doorbell, loops(context, relay))).background_task(),
        EventConsumer(context.db, context.redis, "gateway-events", "gateway", consumers.handlers()).background_task(),
    )


def ready(context: SchedulerContext) -> Sequence[ReadyCheck]:
    """The scheduler can work when its database answers."""
    return (ReadyCheck("database", context.database_answers),)


SPEC: ServiceSpec[SchedulerSettings, SchedulerContext] = ServiceSpec(
    name=NAME,
    settings=SchedulerSettings,
    context=open_context,
    apps=apps,
    background=background,
    ready=ready,
    metrics=lambda context: context.metrics,
    schema_apps=schema_apps,
)
