"""The routing table in memory: what a router was told, ready to be looked up."""

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slipway_schemas.inference.routing import Backend, Route, RouteKey, TableChanges


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Where requests of one version's endpoint go."""

    host: str
    port: int
    version: str
    version_id: str
    weight: int
    wakes: str | None = None
    """Id of the endpoint, where it may be asleep."""


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One prefix and what is behind it."""

    prefix: str
    deployment: str
    endpoint: str
    backends: tuple[BackendEntry, ...]
    sticky: bool
    public: bool
    detail: str

    @property
    def canary_share(self) -> int:
        """Requests of 10,000 that the second backend gets."""
        if len(self.backends) < 2:
            return 0
        first, second = self.backends
        both = first.weight + second.weight
        return round(10_000 * second.weight / both) if both else 0


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A consumer's key, by the SHA-256 of what the consumer shows."""

    key_id: str
    key_hash: str
    deployment: str
    endpoints: tuple[str, ...]
    expires_at: int | None
    requests_per_minute: int | None

    def opens(self, endpoint: str) -> bool:
        """Whether the key is for this endpoint of its deployment."""
        return not self.endpoints or endpoint in self.endpoints


Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Change(Generic[Entry]):
    """An entry before and after; None = not there."""

    before: Entry | None
    now: Entry | None


@dataclass(frozen=True)
class Difference:
    """What a change of the table means for an engine: routes by prefix, keys by hash."""

    revision: int
    routes: Mapping[str, Change[RouteEntry]] = field(default_factory=dict)
    keys: Mapping[str, Change[KeyEntry]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the engine has nothing to do."""
        return not self.routes and not self.keys


class RoutingTable:
    """Routes by prefix and keys by hash. Read by engines, changed by the control loop alone."""

    def __init__(self) -> None:
        self.revision = 0
        self.generation = 0
        """How many differences were taken over; unlike revisions it never goes back."""
        self.routes: dict[str, RouteEntry] = {}
        self.keys: dict[str, KeyEntry] = {}
        self._depths: Counter[int] = Counter()

    def difference(self, changes: TableChanges) -> Difference:
        """What `changes` alter. Changes nothing, so it may run in a thread."""
        routes: dict[str, RouteEntry | None] = {
            sys.intern(one.prefix): None if one.removed else _route(one) for one in changes.routes
        }
        keys: dict[str, KeyEntry | None] = {one.key_hash: None if one.removed else _key(one) for one in changes.keys}
        if changes.complete:
            routes |= dict.fromkeys(self.routes.keys() - routes.keys())
            keys |= dict.fromkeys(self.keys.keys() - keys.keys())
        return Difference(changes.revision, _changes(self.routes, routes), _changes(self.keys, keys))

    def install(self, difference: Difference) -> None:
        """Take a difference over; from now on lookups answer by it."""
        for prefix, route in difference.routes.items():
            self._depths[prefix.count("/")] += (route.now is not None) - (route.before is not None)
            _replace(self.routes, prefix, route.now)
        for digest, key in difference.keys.items():
            _replace(self.keys, digest, key.now)
        self._depths = +self._depths
        self.revision = difference.revision
        self.generation += 1

    def resolve(self, path: str) -> RouteEntry | None:
        """The route with the longest prefix that is `path` or ends where a slash follows in it."""
        if not self._depths:
            return None
        deepest = max(self._depths)
        segments = path.split("/", deepest + 1)
        for depth in range(min(deepest, len(segments) - 1), 0, -1):
            entry = self.routes.get("/".join(segments[: depth + 1]))
            if entry is not None:
                return entry
        return None


def _changes(held: Mapping[str, Entry], wanted: Mapping[str, Entry | None]) -> dict[str, Change[Entry]]:
    changes = {name: Change(held.get(name), entry) for name, entry in wanted.items()}
    return {name: change for name, change in changes.items() if change.before != change.now}


def _replace(held: dict[str, Entry], name: str, entry: Entry | None) -> None:
    if entry is None:
        held.pop(name, None)
    else:
        held[name] = entry


def _route(route: Route) -> RouteEntry:
    return RouteEntry(
        sys.intern(route.prefix),
        sys.intern(str(route.deployment_id)),
        sys.intern(route.endpoint),
        tuple(_backend(one) for one in route.backends),
        route.sticky,
        route.public,
        sys.intern(route.detail),
    )


def _backend(backend: Backend) -> BackendEntry:
    return BackendEntry(
        sys.intern(backend.host),
        backend.port,
        sys.intern(backend.version),
        sys.intern(str(backend.version_id)),
        backend.weight,
        None if backend.wakes is None else str(backend.wakes),
    )


def _key(key: RouteKey) -> KeyEntry:
    return KeyEntry(
        str(key.key_id),
        key.key_hash,
        sys.intern(str(key.deployment_id)),
        tuple(sys.intern(one) for one in key.endpoints),
        key.expires_at,
        key.requests_per_minute,
    )
