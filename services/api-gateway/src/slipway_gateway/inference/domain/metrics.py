"""Traffic of endpoints: totals and quantiles out of the minutes that the routers report."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from slipway_gateway.inference.domain.records import Minute
from slipway_schemas.inference.routing import LATENCY_BUCKETS_MS

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


class TrafficReport(BaseModel):
    """Traffic since a time: all of it, by route, and minute by minute."""

    since: datetime
    total: Traffic
    routes: list[RouteTraffic]
    minutes: list[TrafficMinute]


def report(minutes: Sequence[Minute], since: datetime) -> TrafficReport:
    """Summarize; a minute without requests is not listed."""
    by_minute: dict[datetime, list[Minute]] = {}
    by_route: dict[str, list[Minute]] = {}
    for one in minutes:
        by_minute.setdefault(one.minute, []).append(one)
        by_route.setdefault(one.prefix, []).append(one)
    return TrafficReport(
        since=since,
        total=Traffic.model_validate(_summed(minutes)),
        routes=[_route(prefix, found) for prefix, found in sorted(by_route.items())],
        minutes=[TrafficMinute.model_validate({**_summed(found), "minute": at}) for at, found in by_minute.items()],
    )


def _route(prefix: str, minutes: Sequence[Minute]) -> RouteTraffic:
    parts = prefix.strip("/").split("/")
    return RouteTraffic.model_validate(
        {**_summed(minutes), "prefix": prefix, "via": parts[-2] if len(parts) > 1 else "", "endpoint": parts[-1]}
    )


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
