"""How inference-builder starts."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from slipway_builder.settings import BuilderSettings
from slipway_kit.app import create_app
from slipway_kit.errors import ErrorStyle
from slipway_kit.metrics import ServiceMetrics
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec


@dataclass(frozen=True)
class BuilderContext:
    """Singletons of the process."""

    metrics: ServiceMetrics


@asynccontextmanager
async def open_context(_settings: BuilderSettings) -> AsyncIterator[BuilderContext]:
    """Open what the service holds."""
    yield BuilderContext(ServiceMetrics(CollectorRegistry(), "builder"))


def schema_apps() -> Apps:
    """The apps, only to be described."""
    return Apps(internal=create_app("Slipway inference-builder, internal", style=ErrorStyle.PROBLEM))


def build_apps(context: BuilderContext) -> Apps:
    """The internal app, to which the supervisor adds health, readiness and metrics."""
    app = create_app("Slipway inference-builder, internal", style=ErrorStyle.PROBLEM, metrics=context.metrics)
    return Apps(internal=app)


def background(_context: BuilderContext) -> Sequence[BackgroundTask]:
    """Nothing runs beside the apps."""
    return []


def ready(_context: BuilderContext) -> Sequence[ReadyCheck]:
    """Ready as soon as it answers."""
    return []


SPEC: ServiceSpec[BuilderSettings, BuilderContext] = ServiceSpec(
    name="builder",
    settings=BuilderSettings,
    context=open_context,
    apps=build_apps,
    background=background,
    ready=ready,
    metrics=lambda context: context.metrics,
    schema_apps=schema_apps,
)
