"""Traffic of endpoints: totals and quantiles out of the minutes that the routers report."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from slipway_gateway.inference.domain.records import Minute
from slipway_schemas.inference.routing import LATENCY_BUCKETS_MS

T = TypeVar("T", bound=BaseModel)
K = TypeVar("K", bound=tuple[str, ...])
_HALF, _MOST, _NEARLY_ALL = 0.5, 0.95, 0.99


class Traffic(BaseModel):
    """Requests of some time, with their latency in milliseconds as the router sees it."""

    requests: int
    server_errors: int = Field(description="Answers with a status of 500 and above.")
    client_errors: int = Field(description="Answers with a status of 400 to 499.")
    error_percent: float = Field(description="Share of server errors.")
    latency_ms_mean: float | None
    latency_ms_max: float | None
    latency_ms_p50: float | None = Field(description="Upper end of the latency band that holds this quantile.")
    latency_ms_p95: float | None
    latency_ms_p99: float | None


class TrafficMinute(Traffic):
    """The requests of one minute."""

    minute: datetime


class RouteTraffic(Traffic):
    """The requests through one address."""

    prefix: str
    via: str = Field(description="The version or alias in the address.")
    endpoint: str
    version: str = Field(description="The version that answered; behind an alias there may have been several.")


class VersionTraffic(Traffic):
    """The requests that a version answered, through whatever address."""

    version: str
    endpoint: str


class AliasTraffic(Traffic):
    """The requests through an alias, whichever version answered."""

    alias: str
    endpoint: str


class TrafficReport(BaseModel):
    """Traffic since a time: all of it, by route, version and alias, and minute by minute."""

    since: datetime
    total: Traffic
    routes: list[RouteTraffic]
    versions: list[VersionTraffic]
    aliases: list[AliasTraffic]
    minutes: list[TrafficMinute]


@dataclass(frozen=True)
class Answering:
    """An endpoint by name, and the version that it is of."""

    version: str
    endpoint: str


def report(minutes: Sequence[Minute], since: datetime, answering: Mapping[UUID, Answering]) -> TrafficReport:
    """Summarize the minutes of the endpoints in `answering`; a minute without requests is not listed."""
    by_minute: dict[datetime, list[Minute]] = defaultdict(list)
    by_route: dict[tuple[str, str, str, str], list[Minute]] = defaultdict(list)
    by_version: dict[tuple[str, str], list[Minute]] = defaultdict(list)
    by_alias: dict[tuple[str, str], list[Minute]] = defaultdict(list)
    known = [one for one in minutes if one.endpoint_id in answering]
    for one in known:
        by, via = answering[one.endpoint_id], _via(one.prefix)
        by_minute[one.minute].append(one)
        by_route[one.prefix, via, by.endpoint, by.version].append(one)
        by_version[by.version, by.endpoint].append(one)
        if via != by.version:
            by_alias[via, by.endpoint].append(one)
    return TrafficReport(
        since=since,
        total=Traffic.model_validate(_summed(known)),
        routes=_each(RouteTraffic, ("prefix", "via", "endpoint", "version"), by_route),
        versions=_each(VersionTraffic, ("version", "endpoint"), by_version),
        aliases=_each(AliasTraffic, ("alias", "endpoint"), by_alias),
        minutes=[TrafficMinute.model_validate({**_summed(found), "minute": at}) for at, found in by_minute.items()],
    )


def _via(prefix: str) -> str:
    """The version or alias in an address."""
    parts = prefix.strip("/").split("/")
    return parts[-2] if len(parts) > 1 else ""


def _each(kind: type[T], names: Sequence[str], groups: Mapping[K, Sequence[Minute]]) -> list[T]:
    return [
        kind.model_validate({**_summed(found), **dict(zip(names, key, strict=True))})
        for key, found in sorted(groups.items(), key=lambda one: one[0])
    ]


def _summed(minutes: Sequence[Minute]) -> dict[str, float | int | None]:
    requests = sum(one.requests for one in minutes)
    errors = sum(one.server_errors for one in minutes)
    buckets = _added(one.buckets for one in minutes)
    highest = max((one.latency_ms_max for one in minutes), default=0.0)
    return {
        "requests": requests,
        "server_errors": errors,
        "client_errors": sum(one.client_errors for one in minutes),
        "error_percent": round(100 * errors / requests, 3) if requests else 0.0,
        "latency_ms_mean": round(sum(one.latency_ms_sum for one in minutes) / requests, 3) if requests else None,
        "latency_ms_max": highest if requests else None,
        "latency_ms_p50": _quantile(buckets, _HALF, highest),
        "latency_ms_p95": _quantile(buckets, _MOST, highest),
        "latency_ms_p99": _quantile(buckets, _NEARLY_ALL, highest),
    }


def _added(rows: Iterable[Sequence[int]]) -> list[int]:
    total = [0] * (len(LATENCY_BUCKETS_MS) + 1)
    for row in rows:
        for index, count in enumerate(row[: len(total)]):
            total[index] += count
    return total


def _quantile(buckets: Sequence[int], share: float, highest: float) -> float | None:
    """The upper end of the bucket in which the quantile falls; nothing is above the highest latency seen."""
    wanted = share * sum(buckets)
    if not wanted:
        return None
    seen = 0
    for index, count in enumerate(buckets):
        seen += count
        if seen >= wanted and index < len(LATENCY_BUCKETS_MS):
            return min(float(LATENCY_BUCKETS_MS[index]), highest or float(LATENCY_BUCKETS_MS[index]))
    return highest
