"""What becomes of a request: the rules that HAProxy's configuration states, for the relay."""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from slipway_builder.router import answers
from slipway_builder.router.answers import Answer
from slipway_builder.router.table import BackendEntry, KeyEntry, RouteEntry, RoutingTable

Headers = Sequence[tuple[bytes, bytes, bytes]]
"""Name in lower case, name as it was sent, value."""

_AUTHORIZATION = b"authorization"
_API_KEY = b"x-api-key"
_BEARER = b"bearer"
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Refusal:
    """The router answers by itself."""

    answer: Answer
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Forward:
    """The request goes to a version's endpoint, without the headers that held a key."""

    route: RouteEntry
    backend: BackendEntry
    key_id: str | None
    secret_headers: frozenset[bytes]


class RateLimits:
    """Requests by key in the current minute of the clock."""

    def __init__(self) -> None:
        self._minute = 0
        self._used: Counter[str] = Counter()

    def take(self, key: KeyEntry, now: float) -> bool:
        """Whether the key has a request left in this minute; if so, it is used up."""
        if not key.requests_per_minute:
            return True
        minute = int(now) // _MINUTE
        if minute != self._minute:
            self._minute, self._used = minute, Counter()
        if self._used[key.key_hash] >= key.requests_per_minute:
            return False
        self._used[key.key_hash] += 1
        return True


class Decider:
    """Decides by the table. `draw` gives a number below 10,000 for canaries that are not sticky."""

    def __init__(self, table: RoutingTable, draw: Callable[[], int]) -> None:
        self._table = table
        self._draw = draw
        self._limits = RateLimits()

    def decide(self, path: str, headers: Headers, client: str, now: float) -> Forward | Refusal:
        """Route and key of one request; `client` is the client's address, `now` Unix seconds."""
        route = self._table.resolve(path)
        if route is None:
            return Refusal(answers.NO_ROUTE)
        digest = _shown_key(headers)
        key = self._table.keys.get(digest) if digest is not None else None
        if not route.public and (refusal := self._refuse(route, digest, key, now)) is not None:
            return refusal
        if not route.backends:
            return Refusal(answers.no_backend(route.detail))
        if key is not None and not route.public and not self._limits.take(key, now):
            wait = _MINUTE - int(now) % _MINUTE
            return Refusal(answers.RATE_LIMITED, (("Retry-After", str(wait)),))
        backend = self._pick(route, digest or "", client)
        key_id = key.key_id if key is not None and not route.public else None
        return Forward(route, backend, key_id, self._secret_headers(headers))

    def _refuse(self, route: RouteEntry, digest: str | None, key: KeyEntry | None, now: float) -> Refusal | None:
        if digest is None:
            return Refusal(answers.KEY_MISSING, (("WWW-Authenticate", answers.CHALLENGE),))
        if key is None or key.deployment != route.deployment:
            return Refusal(answers.KEY_REFUSED)
        if key.expires_at is not None and key.expires_at <= now:
            return Refusal(answers.KEY_EXPIRED)
        return None if key.opens(route.endpoint) else Refusal(answers.KEY_SCOPE)

    def _pick(self, route: RouteEntry, digest: str, client: str) -> BackendEntry:
        share = route.canary_share
        if not share:
            return route.backends[0]
        same = f"{route.prefix}/|{digest}|{client}".encode()
        draw = zlib.crc32(same) % 10_000 if route.sticky else self._draw()
        return route.backends[1] if draw < share else route.backends[0]

    def _secret_headers(self, headers: Headers) -> frozenset[bytes]:
        """Headers that hold a key of this router: no pod gets them."""
        shown = ((name, _digest(name, value)) for name, _, value in headers if name in (_AUTHORIZATION, _API_KEY))
        return frozenset(name for name, digest in shown if digest in self._table.keys)


def _shown_key(headers: Headers) -> str | None:
    """The hash of the key that decides: the last X-Api-Key where there is one, else the first Authorization."""
    own = [value for name, _, value in headers if name == _API_KEY]
    if own:
        return _digest(_API_KEY, own[-1])
    return next((_digest(name, value) for name, _, value in headers if name == _AUTHORIZATION), None)


def _digest(name: bytes, value: bytes) -> str | None:
    """SHA-256 of the key in a header; None when the header holds none."""
    if name == _AUTHORIZATION:
        scheme, _, token = value.partition(b" ")
        value = token.strip()
        if scheme.lower() != _BEARER or not value:
            return None
    return sha256(value).hexdigest()
