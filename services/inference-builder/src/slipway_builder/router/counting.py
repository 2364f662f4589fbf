"""What routers know of requests: counts, latency and key uses, for the builder and for Prometheus."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from slipway_schemas.inference.routing import LATENCY_BUCKETS_MS, KeyUse, RouteCount

_NOTHING = b"-"
_PLAIN = b"plain"
_MOST_KINDS = 5_000
"""Different request lines that are held before they are counted up."""


@dataclass(slots=True)
class _Count:
    requests: int = 0
    server_errors: int = 0
    client_errors: int = 0
    latency_ms_sum: float = 0.0
    latency_ms_max: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_MS) + 1))

    def add(self, status: int, latency_ms: float, times: int) -> None:
        self.requests += times
        self.server_errors += times * (status >= 500)
        self.client_errors += times * (400 <= status < 500)
        self.latency_ms_sum += latency_ms * times
        self.latency_ms_max = max(self.latency_ms_max, latency_ms)
        self.buckets[bisect_right(LATENCY_BUCKETS_MS, latency_ms)] += times

    def merge(self, other: "_Count") -> None:
        self.requests += other.requests
        self.server_errors += other.server_errors
        self.client_errors += other.client_errors
        self.latency_ms_sum += other.latency_ms_sum
        self.latency_ms_max = max(self.latency_ms_max, other.latency_ms_max)
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]


@dataclass(frozen=True)
class Report:
    """What the builder has not heard of yet."""

    counts: tuple[RouteCount, ...]
    key_uses: tuple[KeyUse, ...]


class RequestCounts:
    """Takes request lines: `<prefix>/ <version id> <key id> <status> <ms to connect> <ms to answer> <how> <passed>`.

    `-` = none. Only requests that went the `plain` way, or another one and `passed`, were meant for a version.
    Equal lines are counted before they are read, which is what keeps it cheap at 30,000 requests a second.
    """

    def __init__(self, unix_time: Callable[[], float] = time.time) -> None:
        self._time = unix_time
        self._lines: Counter[bytes] = Counter()
        self._new: dict[tuple[str, str], _Count] = {}
        self._all: dict[tuple[str, str], _Count] = {}
        self._key_uses: dict[str, int] = {}
        self.refused: Counter[int] = Counter()
        """Requests that met no version, by the status of their answer."""

    def feed(self, lines: bytes) -> None:
        """Take whole lines."""
        self._lines.update(lines.split(b"\n"))
        if len(self._lines) > _MOST_KINDS:
            self._read_lines()

    def report(self) -> Report:
        """What came since the last report."""
        self._read_lines()
        counts = tuple(
            RouteCount(
                prefix=prefix,
                version_id=UUID(version_id),
                requests=one.requests,
                server_errors=one.server_errors,
                client_errors=one.client_errors,
                latency_ms_sum=one.latency_ms_sum,
                latency_ms_max=one.latency_ms_max,
                buckets=tuple(one.buckets),
            )
            for (prefix, version_id), one in self._new.items()
        )
        uses = tuple(KeyUse(key_id=UUID(key_id), at=at) for key_id, at in self._key_uses.items())
        self._new, self._key_uses = {}, {}
        return Report(counts, uses)

    def put_back(self, report: Report) -> None:
        """Keep a report that the builder did not get for the next one."""
        for one in report.counts:
            count = _Count(
                one.requests,
                one.server_errors,
                one.client_errors,
                one.latency_ms_sum,
                one.latency_ms_max,
                list(one.buckets),
            )
            self._new.setdefault((one.prefix, str(one.version_id)), _Count()).merge(count)
        for use in report.key_uses:
            known = self._key_uses.get(str(use.key_id), 0)
            self._key_uses[str(use.key_id)] = max(known, use.at)

    def forget(self, keep: Callable[[str, str], bool]) -> None:
        """Forget the sums of routes and versions that are gone."""
        self._all = {of: one for of, one in self._all.items() if keep(*of)}

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Name, labels and value of every Prometheus sample."""
        self._read_lines()
        for (prefix, version_id), one in self._all.items():
            labels = {"route": prefix, "version_id": version_id}
            yield "slipway_router_requests_total", labels, one.requests
            yield "slipway_router_server_errors_total", labels, one.server_errors
            yield "slipway_router_client_errors_total", labels, one.client_errors
            below = 0
            for limit, bucket in zip(LATENCY_BUCKETS_MS, one.buckets, strict=False):
                below += bucket
                yield "slipway_router_latency_seconds_bucket", labels | {"le": f"{limit / 1000:g}"}, below
            yield "slipway_router_latency_seconds_bucket", labels | {"le": "+Inf"}, one.requests
            yield "slipway_router_latency_seconds_sum", labels, one.latency_ms_sum / 1000
            yield "slipway_router_latency_seconds_count", labels, one.requests
        for status, number in self.refused.items():
            yield "slipway_router_refused_requests_total", {"status": str(status)}, number

    def _read_lines(self) -> None:
        lines, self._lines = self._lines, Counter()
        now = int(self._time())
        for line, times in lines.items():
            words = line.split(b" ")
            if len(words) != 8:
                continue
            prefix, version_id, key_id = words[:3]
            status, connect_ms, answer_ms = (int(word) for word in words[3:6])
            if words[6] != _PLAIN and words[7] == _NOTHING:
                self.refused[status] += times
                continue
            if key_id != _NOTHING:
                self._key_uses[key_id.decode()] = now
            if status < 0:
                continue
            latency = max(0, connect_ms) + max(0, answer_ms)
            of = prefix.decode().removesuffix("/"), version_id.decode()
            self._new.setdefault(of, _Count()).add(status, latency, times)
            self._all.setdefault(of, _Count()).add(status, latency, times)
