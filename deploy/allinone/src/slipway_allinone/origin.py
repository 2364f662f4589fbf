"""The one public origin of an all-in-one installation: requests go to services by the path table."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from slipway_kit.errors import ErrorStyle
from slipway_kit.relay import HttpRelay
from slipway_kit.service import Apps, BackgroundTask, ReadyCheck, ServiceSpec
from slipway_kit.settings import ServiceSettings, service_config
from slipway_schemas.routes import route_of


class OriginSettings(ServiceSettings):
    """`upstreams` maps `<service>.<app>` to the base URL on which that app listens."""

    model_config = service_config("origin")

    upstreams: dict[str, str]


class Origin:
    """Pure ASGI: looks up the path and passes the request on."""

    def __init__(self, upstreams: dict[str, str]) -> None:
        self._relays = {
            name: HttpRelay(url, name=name.split(".")[0], style=_style_of(name)) for name, url in upstreams.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            route = route_of(scope["path"])
            await self._relays[f"{route.service}.{route.app}"](scope, receive, send)

    async def close(self) -> None:
        """Close the connections to the services."""
        for relay in self._relays.values():
            await relay.close()


def _style_of(app: str) -> ErrorStyle:
    return ErrorStyle.PROBLEM if app.endswith(".workers") else ErrorStyle.V0


@asynccontextmanager
async def _open(settings: OriginSettings) -> AsyncIterator[Origin]:
    origin = Origin(settings.upstreams)
    try:
        yield origin
    finally:
        await origin.close()


def _nothing(_: Origin) -> Sequence[BackgroundTask]:
    return []


def _always_ready(_: Origin) -> Sequence[ReadyCheck]:
    return []


SPEC: ServiceSpec[OriginSettings, Origin] = ServiceSpec(
    name="origin",
    settings=OriginSettings,
    context=_open,
    apps=lambda origin: Apps(public=origin),
    background=_nothing,
    ready=_always_ready,
    metrics=lambda _: CollectorRegistry(),
)
