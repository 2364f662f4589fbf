"""The path table of the public origin: which service answers which path (design section 11)."""

from typing import Final, Literal, NamedTuple

ServiceName = Literal["gateway", "scheduler", "builder", "logs"]
AppName = Literal["public", "workers"]


class OriginRoute(NamedTuple):
    """All paths that start with `prefix` go to this app of this service."""

    prefix: str
    service: ServiceName
    app: AppName


ORIGIN_ROUTES: Final = (
    OriginRoute("/workers/v1/register", "scheduler", "workers"),
    OriginRoute("/workers/v1/sync", "scheduler", "workers"),
    OriginRoute("/workers/v1/logs", "logs", "workers"),
    OriginRoute("/workers/v1/usage", "logs", "workers"),
    OriginRoute("/workers/", "gateway", "workers"),
    OriginRoute("/api/v1/streams/", "logs", "public"),
    OriginRoute("/", "gateway", "public"),
)
"""First match wins. Ingress and the all-in-one origin read this table."""


def route_of(path: str) -> OriginRoute:
    """The route that answers this path."""
    return next(route for route in ORIGIN_ROUTES if path.startswith(route.prefix))
