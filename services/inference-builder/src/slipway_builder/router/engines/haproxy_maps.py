"""The table as HAProxy's maps, and the commands that bring running maps from one state to the next.

Values are fields between bars:

routes: prefix/ -> prefix/|deployment|closed or public|plain, special or waking|host|port|version|version id|one,
sticky, random or none|share of the canary|detail|endpoint|endpoint id where it may be asleep, of the first backend;
looked up by the longest key that begins a path.
canaries: prefix/ -> the same of the second backend.
keys: deployment/hash -> plain|id or metered|id|expiry|requests per minute|all or some.
scopes: hash/endpoint -> 1, for keys that are for some endpoints. hashes: hash -> 1, for every key there is.
Hashes are in upper case, as HAProxy writes hexadecimal digits.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, Literal
from urllib.parse import quote

from slipway_builder.router.answers import no_backend
from slipway_builder.router.table import BackendEntry, Difference, KeyEntry, RouteEntry, RoutingTable

ROUTES: Final = "routes"
KEYS: Final = "keys"
HASHES: Final = "hashes"
CANARIES: Final = "canaries"
SCOPES: Final = "scopes"
MAPS: Final = (CANARIES, ROUTES, SCOPES, KEYS, HASHES)
"""What routes and keys refer to comes before them."""
NEVER: Final = 2**53
"""Expiry of a key that has none, in Unix seconds."""
LINE_BYTES: Final = 12_000
"""Longest command line; HAProxy reads one into a buffer of 16 KiB."""
MAX_DETAIL: Final = 400

_PREFIX = re.compile(r"(/[A-Za-z0-9._~@%+-]+)+")
_HASH = re.compile(r"[0-9a-f]{64}")


def map_files(table: RoutingTable) -> Iterator[tuple[str, str]]:
    """Name and text of each map file of a table."""
    lines: dict[str, list[str]] = {name: [] for name in MAPS}
    found = chain(
        (route_entries(prefix, route) for prefix, route in table.routes.items()),
        (key_entries(digest, key) for digest, key in table.keys.items()),
    )
    for entries in found:
        for name, of_map in entries.items():
            lines[name] += (f"{key} {value}\n" for key, value in of_map.items())
    for name, of_map_lines in lines.items():
        yield name, "".join(of_map_lines)


def commands(difference: Difference, path: Mapping[str, str]) -> list[str]:
    """Command lines that bring running maps over a difference; `path` of a map is its name in HAProxy.

    What is new or changed comes before what goes, so no request meets neither.
    """
    before, now = _entries(difference, "before"), _entries(difference, "now")
    put = [
        f"{'set' if key in before[name] else 'add'} map {path[name]} {key} {value}"
        for name in MAPS
        for key, value in now[name].items()
        if before[name].get(key) != value
    ]
    removed = [f"del map {path[name]} {key}" for name in reversed(MAPS) for key in before[name] if key not in now[name]]
    return list(_lines([*put, *removed]))


def _entries(difference: Difference, side: Literal["before", "now"]) -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {name: {} for name in MAPS}
    found = chain(
        (route_entries(prefix, getattr(change, side)) for prefix, change in difference.routes.items()),
        (key_entries(digest, getattr(change, side)) for digest, change in difference.keys.items()),
    )
    for one in found:
        for name, of_map in one.items():
            entries[name].update(of_map)
    return entries


def route_entries(prefix: str, entry: RouteEntry | None) -> dict[str, dict[str, str]]:
    """The route's entries by map; none for a route that is gone or whose prefix no request can have."""
    if entry is None or not _PREFIX.fullmatch(prefix):
        return {}
    kind = "none" if not entry.backends else ("sticky" if entry.sticky else "random") if entry.canary_share else "one"
    access = "public" if entry.public else "closed"
    path = "plain" if (access, kind) == ("closed", "one") else "special"
    if any(one.wakes for one in entry.backends):
        path = "waking"
    detail = "" if entry.backends else quote(no_backend(entry.detail[:MAX_DETAIL]).body, safe="")
    first = (f"{prefix}/", entry.deployment, access, path)
    last = (kind, str(entry.canary_share), detail, quote(entry.endpoint, safe=""))
    values = ["|".join((*first, _backend(one), *last, one.wakes or "")) for one in entry.backends]
    values = values or ["|".join((*first, "|||", *last, ""))]
    return {name: {f"{prefix}/": value} for name, value in zip((ROUTES, CANARIES), values, strict=False)}


def key_entries(digest: str, key: KeyEntry | None) -> dict[str, dict[str, str]]:
    """The key's entries by map; none for a key that is gone or whose hash is no SHA-256."""
    if key is None or not _HASH.fullmatch(digest):
        return {}
    value = f"plain|{key.key_id}"
    if key.expires_at is not None or key.requests_per_minute or key.endpoints:
        expires_at = NEVER if key.expires_at is None else key.expires_at
        scope = "some" if key.endpoints else "all"
        value = f"metered|{key.key_id}|{expires_at}|{key.requests_per_minute or 0}|{scope}"
    digest = digest.upper()
    scopes = {f"{digest}/{quote(one, safe='')}": "1" for one in key.endpoints}
    return {KEYS: {f"{key.deployment}/{digest}": value}, SCOPES: scopes, HASHES: {digest: "1"}}


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
