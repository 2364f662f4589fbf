"""The table as HAProxy's maps, and the commands that bring running maps from one state to the next.

routes: prefix with a slash at its end -> prefix|deployment|endpoint|access|host|port|version|version id|(the same four
of the canary)|share of the canary|kind|detail. keys: hash -> id|deployment|expiry|requests per minute|scope.
scopes: hash/endpoint -> 1, for keys that are for some endpoints only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from slipway_builder.router.answers import no_backend
from slipway_builder.router.table import BackendEntry, Difference, KeyEntry, RouteEntry, RoutingTable

ROUTES: Final = "routes"
KEYS: Final = "keys"
SCOPES: Final = "scopes"
MAPS: Final = (ROUTES, KEYS, SCOPES)
NEVER: Final = 2**53
"""Expiry of a key that has none, in Unix seconds."""
LINE_BYTES: Final = 12_000
"""Longest command line; HAProxy reads one into a buffer of 16 KiB."""
MAX_DETAIL: Final = 400

_PREFIX = re.compile(r"(/[A-Za-z0-9._~@%+-]+)+")
_HASH = re.compile(r"[0-9a-f]{64}")

Entries = Mapping[str, Mapping[str, str]]
"""Name of the map -> key -> value."""


@dataclass(frozen=True)
class MapChanges:
    """Entries to set and to remove, by map."""

    set: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    removed: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


class MapState:
    """What HAProxy's maps hold."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, str]] = {name: {} for name in MAPS}

    def load(self, table: RoutingTable) -> None:
        """Hold a whole table and nothing else."""
        self.entries = {name: {} for name in MAPS}
        for prefix, entry in table.routes.items():
            self.entries[ROUTES].update(route_entries(prefix, entry))
        for digest, key in table.keys.items():
            for name, entries in key_entries(digest, key).items():
                self.entries[name].update(entries)

    def files(self) -> Iterator[tuple[str, str]]:
        """Name and text of each map file."""
        for name in MAPS:
            yield name, "".join(f"{key} {value}\n" for key, value in self.entries[name].items())

    def commands(self, difference: Difference, path: Mapping[str, str]) -> list[str]:
        """Take the difference over and return the command lines that do the same to the running maps.

        What is new or changed comes before what goes, so no request meets neither.
        """
        wanted: dict[str, dict[str, str]] = {name: {} for name in MAPS}
        gone: dict[str, set[str]] = {name: set() for name in MAPS}
        for prefix, entry in difference.routes.items():
            wanted[ROUTES].update(route_entries(prefix, entry))
            gone[ROUTES].add(f"{prefix}/")
        for digest, key in difference.keys.items():
            gone[KEYS].add(digest)
            gone[SCOPES].update(one for one in self.entries[SCOPES] if one.startswith(f"{digest}/"))
            for name, entries in key_entries(digest, key).items():
                wanted[name].update(entries)
        first = [command for name in MAPS for command in self._put(name, wanted[name], path[name])]
        last = [
            command for name in MAPS for command in self._remove(name, gone[name] - wanted[name].keys(), path[name])
        ]
        return list(_lines([*first, *last]))

    def _put(self, name: str, wanted: Mapping[str, str], path: str) -> Iterator[str]:
        entries = self.entries[name]
        for key, value in wanted.items():
            if key not in entries:
                yield f"add map {path} {key} {value}"
            elif entries[key] != value:
                yield f"set map {path} {key} {value}"
            entries[key] = value

    def _remove(self, name: str, gone: Iterable[str], path: str) -> Iterator[str]:
        for key in sorted(gone):
            if self.entries[name].pop(key, None) is not None:
                yield f"del map {path} {key}"


def route_entries(prefix: str, entry: RouteEntry | None) -> dict[str, str]:
    """The route's map entry; none for a route that is gone or whose prefix no request can have."""
    if entry is None or not _PREFIX.fullmatch(prefix):
        return {}
    first = _backend(entry.backends[0]) if entry.backends else "|||"
    second = _backend(entry.backends[1]) if len(entry.backends) > 1 else "|||"
    kind = "none" if not entry.backends else ("sticky" if entry.sticky else "random") if entry.canary_share else "one"
    access = "public" if entry.public else "closed"
    detail = "" if entry.backends else quote(no_backend(entry.detail[:MAX_DETAIL]).body, safe="")
    fields = (f"{prefix}/", entry.deployment, quote(entry.endpoint, safe=""), access, first, second)
    return {f"{prefix}/": "|".join((*fields, str(entry.canary_share), kind, detail))}


def key_entries(digest: str, key: KeyEntry | None) -> dict[str, dict[str, str]]:
    """The key's entries by map; none for a key that is gone or whose hash is no SHA-256."""
    if key is None or not _HASH.fullmatch(digest):
        return {}
    expires_at = NEVER if key.expires_at is None else key.expires_at
    scope = "some" if key.endpoints else "all"
    value = f"{key.key_id}|{key.deployment}|{expires_at}|{key.requests_per_minute or 0}|{scope}"
    return {KEYS: {digest: value}, SCOPES: {f"{digest}/{quote(one, safe='')}": "1" for one in key.endpoints}}


def _backend(backend: BackendEntry) -> str:
    return f"{quote(backend.host, safe=':')}|{backend.port}|{quote(backend.version, safe='')}|{backend.version_id}"


def _lines(commands: Iterable[str]) -> Iterator[str]:
    """Commands joined with semicolons, as many to a line as fit: HAProxy carries one line out in one go."""
    line = ""
    for command in commands:
        if line and len(line) + len(command) > LINE_BYTES:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line
