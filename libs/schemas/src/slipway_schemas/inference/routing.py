"""The routing table, as inference-builder hands it to the routers of a target.

A router is told what changed since the revision that it has; it never computes what a name means.
"""

from uuid import UUID

from pydantic import Field

from slipway_schemas.base import StrictModel, WireModel

ROUTING_VERSION = 1


class Backend(WireModel):
    """Where requests of one version's endpoint go."""

    host: str
    """An IP address: a Service's cluster address, or the loopback on one machine."""
    port: int = Field(ge=1, le=65535)
    version: str
    """Name of the version, for the header of the answer and for metrics."""
    version_id: UUID
    weight: int = Field(default=100, ge=0, le=100)
    wakes: UUID | None = None
    """The endpoint, where it may be asleep: requests for it are counted, and wait for a replica. None = it never is."""


class Route(WireModel):
    """`prefix` is `/<owner>/<project>/<deployment>/<version or alias>/<endpoint>`, without a slash at its end.

    It matches itself and what follows after a slash. A route without backends answers 503 with `detail`.
    """

    prefix: str
    deployment_id: UUID
    endpoint: str
    alias: str | None = None
    backends: tuple[Backend, ...] = Field(default=(), max_length=2)
    """One, or two with weights (a canary: the second one)."""
    sticky: bool = True
    public: bool = False
    detail: str = ""
    removed: bool = False


class RouteKey(WireModel):
    """A consumer's key. A request shows it as `Authorization: Bearer <key>` or `X-Api-Key: <key>`."""

    key_id: UUID
    key_hash: str
    """Lower-case hex SHA-256 of the key."""
    deployment_id: UUID
    consumer: str
    endpoints: tuple[str, ...] = ()
    """Endpoints it opens; empty = all of the deployment."""
    expires_at: int | None = None
    """Unix time in seconds."""
    requests_per_minute: int | None = None
    removed: bool = False


class TableChanges(WireModel):
    """What a router has to apply to be at `revision`. `complete` = everything it should have; forget the rest."""

    v: int = ROUTING_VERSION
    revision: int
    complete: bool = False
    routes: tuple[Route, ...] = ()
    keys: tuple[RouteKey, ...] = ()


class RouteCount(WireModel):
    """Requests of one version through one route since the router's last report."""

    prefix: str
    version_id: UUID
    requests: int
    server_errors: int = 0
    client_errors: int = 0
    latency_ms_sum: float = 0.0
    latency_ms_max: float = 0.0
    buckets: tuple[int, ...] = ()
    """Requests by latency, below 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000 ms and above."""


class KeyUse(WireModel):
    """When a key was last used (Unix seconds)."""

    key_id: UUID
    at: int


class RouterSync(StrictModel):
    """A router says what it has and waits for what is new."""

    v: int = ROUTING_VERSION
    router_id: str = Field(min_length=1, max_length=100)
    target_id: UUID
    applied_revision: int = Field(ge=0)
    """0 = nothing yet: the answer is complete."""
    wait_seconds: float = Field(default=20.0, ge=0, le=30)
    counts: tuple[RouteCount, ...] = ()
    key_uses: tuple[KeyUse, ...] = ()


LATENCY_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
VERSION_HEADER = "X-Slipway-Version"
"""Answers name the version that served them."""
PREFIX_HEADER = "X-VH-Prefix"
"""Requests carry the prefix that was really used (contract 4.5); what a client sends under this name is replaced."""
