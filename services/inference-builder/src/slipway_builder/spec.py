"""How inference-builder starts: its `ServiceSpec`."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import Depends

from slipway_builder.aliases.api import router as aliases_router
from slipway_builder.aliases.loops import BoundsLoop, WantedAliasLoop
from slipway_builder.context import NAME, BuilderContext, open_context
from slipway_builder.deployments import consumers
from slipway_builder.deployments.api import router as deployments_router
from slipway_builder.endpoints.api import router as endpoints_router
from slipway_builder.endpoints.loops import TargetLoop
from slipway_builder.images.api import router as images_router
from slipway_builder.images.building import ImageBuilds
from slipway_builder.keys.api import router as keys_router
from slipway_builder.keys.loops import HiddenKeysLoop
from slipway_builder.observe.following import LogFollowing
from slipway_builder.observe.loops import ForgetCountsLoop
from slipway_builder.routing.api import router as routers_router
from slipway_builder.settings import BuilderSettings
from slipway_builder.targets.api import router as targets_router
from slipway_builder.upkeep.loops import CleanUpLoop, LeftOversLoop
from slipway_builder.versions.api import router as versions_router
from slipway_db import LoopRunner, described_only, health_router, sessions
from slipway_events import EventConsumer
from slipway_kit.app import ServiceApp, create_app
from slipway_kit.auth import ServiceVerifier, require_service
from slipway_kit.errors import ErrorStyle
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_schemas.health import ServiceHealth

INTERNAL_ROUTERS = (
    targets_router,
    deployments_router,
    versions_router,
    endpoints_router,
    images_router,
    aliases_router,
    keys_router,
)
_POLL_SECONDS = 0.25
"""What is on its way on a target is looked at this often."""


def apps(context: BuilderContext) -> Apps:
    """Build the app for a context; the builder has nothing public."""
    internal = _internal(context.metrics, context.verifier, lambda: context.health.report(ready(context)))
    sessions(context.db).install(internal)
    internal.state.factory = context.factory
    return Apps(internal=internal)


def schema_apps() -> Apps:
    """Build the app without a context, to print its OpenAPI."""
    return Apps(internal=_internal(None, ServiceVerifier(NAME, {}), described_only))


def _internal(
    metrics: ServiceMetrics | None, verifier: ServiceVerifier, report: Callable[[], Awaitable[ServiceHealth]]
) -> ServiceApp:
    app = create_app("Slipway inference-builder, internal", style=ErrorStyle.PROBLEM, metrics=metrics)
    allowed = Depends(require_service(verifier, "gateway"))
    for router in (*INTERNAL_ROUTERS, health_router(report)):
        app.include_router(router, dependencies=[allowed])
    app.include_router(routers_router)
    return app


def background(context: BuilderContext) -> Sequence[BackgroundTask]:
    """What runs beside requests."""
    db, factory = context.db, context.factory
    loops = (
        TargetLoop(db, factory.pool, context.materials, context.settings.lease_seconds),
        WantedAliasLoop(db),
        BoundsLoop(db),
        HiddenKeysLoop(db),
        ForgetCountsLoop(db, context.settings.keep_counts_days),
        LeftOversLoop(factory.upkeep, context.settings.upkeep.left_overs_seconds),
        CleanUpLoop(db, factory.upkeep, context.settings.upkeep.clean_up_seconds),
    )
    builds = ImageBuilds(
        db,
        context.doorbell,
        context.materials,
        context.transfers,
        context.builders,
        context.work,
        context.clock,
        context.settings.lease_seconds,
    )
    logs = LogFollowing(db, factory.pool, context.materials, context.relay)
    runner = LoopRunner(db, context.doorbell, loops, poll_seconds=_POLL_SECONDS)
    return (
        context.doorbell.background_task(),
        context.health.watch(runner).background_task(),
        EventConsumer(db, context.redis, "gateway-events", "gateway", consumers.handlers()).background_task(),
        BackgroundTask("logs", logs.run),
        *(BackgroundTask(f"build {number}", builds.run) for number in range(1, context.settings.builds + 1)),
    )


def ready(context: BuilderContext) -> Sequence[ReadyCheck]:
    """The builder can work when its database answers."""
    return (ReadyCheck("database", context.database_answers),)


SPEC: ServiceSpec[BuilderSettings, BuilderContext] = ServiceSpec(
    name=NAME,
    settings=BuilderSettings,
    context=open_context,
    apps=apps,
    background=background,
    ready=ready,
    metrics=lambda context: context.metrics,
    schema_apps=schema_apps,
)
