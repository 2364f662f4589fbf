"""How the gateway starts."""

from collections.abc import Sequence

from slipway_db import Loop, LoopRunner
from slipway_events import EventConsumer, EventRelay
from slipway_events.relay import ConsumerRef
from slipway_gateway.app import internal_app, public_app, workers_app
from slipway_gateway.code.loops import ArchiveLoop
from slipway_gateway.context import GatewayContext, open_context
from slipway_gateway.data.consumers import abort_uploads_of_ended
from slipway_gateway.data.loops import AbortUploads, SweepStores
from slipway_gateway.database import SCHEMA
from slipway_gateway.settings import GatewaySettings
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_schemas.events import ExecutionStateChanged

EXECUTION_EVENTS = "scheduler-events"
"""Name under which the gateway follows the scheduler's events."""


def apps(context: GatewayContext) -> Apps:
    """The apps of a running gateway."""
    return Apps(public=public_app(context), workers=workers_app(context), internal=internal_app(context))


def schema_apps() -> Apps:
    """The same apps, only to be described."""
    return Apps(public=public_app(None), workers=workers_app(None), internal=internal_app(None))


def background(context: GatewayContext) -> Sequence[BackgroundTask]:
    """Loops, event relay and what is written in batches."""
    consumers = [ConsumerRef(name, "gateway-events") for name in ("scheduler", "builder")]
    relay = EventRelay(context.db, context.redis, SCHEMA, consumers=consumers)
    uploads = context.settings.uploads
    aborts = AbortUploads(context.db, context.data.stores, context.clock, uploads.abandoned_after)
    sweeps = SweepStores(
        context.db,
        context.data.stores,
        context.clock,
        abandoned_after=uploads.abandoned_after,
        every=uploads.sweep_every,
    )
    loops: list[Loop] = [ArchiveLoop(context.snapshots), aborts, sweeps, *relay.loops()]
    handlers = {ExecutionStateChanged.name: abort_uploads_of_ended}
    consumer = EventConsumer(context.db, context.redis, EXECUTION_EVENTS, "scheduler", handlers)
    return [
        BackgroundTask("doorbell", context.doorbell.run),
        context.health.watch(LoopRunner(context.db, context.doorbell, loops)).background_task(),
        consumer.background_task(),
        BackgroundTask("token_usage", context.token_usage.run),
    ]


def ready(context: GatewayContext) -> Sequence[ReadyCheck]:
    """The gateway can serve when its database answers."""
    return [ReadyCheck("database", context.database_answers)]


def metrics(context: GatewayContext) -> ServiceMetrics:
    """Metrics of this process."""
    return context.metrics


SPEC = ServiceSpec[GatewaySettings, GatewayContext](
    name="gateway",
    settings=GatewaySettings,
    context=open_context,
    apps=apps,
    background=background,
    ready=ready,
    metrics=metrics,
    schema_apps=schema_apps,
)
