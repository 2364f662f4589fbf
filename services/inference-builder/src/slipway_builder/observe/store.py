"""SQL of request counts."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_schemas.inference.routing import LATENCY_BUCKETS_MS, RouteCount

_ADD = text("""
INSERT INTO endpoint_minutes (endpoint_id, prefix, minute, requests, server_errors, client_errors, latency_ms_sum,
    latency_ms_max, buckets)
SELECT e.id, CAST(:prefix AS text), date_trunc('minute', CAST(:now AS timestamptz)), :requests, :server_errors,
    :client_errors, :latency_ms_sum, :latency_ms_max, CAST(:buckets AS bigint[])
FROM endpoints e JOIN routes r ON r.target_id = e.target_id AND r.prefix = :prefix
WHERE e.version_id = :version AND e.target_id = :target AND e.name = r.document ->> 'endpoint'
ON CONFLICT (endpoint_id, prefix, minute) DO UPDATE SET
    requests = endpoint_minutes.requests + excluded.requests,
    server_errors = endpoint_minutes.server_errors + excluded.server_errors,
    client_errors = endpoint_minutes.client_errors + excluded.client_errors,
    latency_ms_sum = endpoint_minutes.latency_ms_sum + excluded.latency_ms_sum,
    latency_ms_max = greatest(endpoint_minutes.latency_ms_max, excluded.latency_ms_max),
    buckets = ARRAY(SELECT a + b FROM unnest(endpoint_minutes.buckets, excluded.buckets) AS both_of(a, b))
""")
_FORGET = text("DELETE FROM endpoint_minutes WHERE minute < now() - make_interval(days => :days)")
_BUCKETS = len(LATENCY_BUCKETS_MS) + 1


class CountStore:
    """Writes counts in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, target_id: UUID, counts: Sequence[RouteCount], now: datetime) -> None:
        """Add what a router has counted; what belongs to no endpoint of its target is dropped."""
        for count in sorted(counts, key=lambda one: (one.prefix, one.version_id)):
            buckets = [*count.buckets, *[0] * _BUCKETS][:_BUCKETS]
            await self._session.execute(
                _ADD,
                {
                    "target": target_id,
                    "prefix": count.prefix,
                    "version": count.version_id,
                    "now": now,
                    "requests": count.requests,
                    "server_errors": count.server_errors,
                    "client_errors": count.client_errors,
                    "latency_ms_sum": count.latency_ms_sum,
                    "latency_ms_max": count.latency_ms_max,
                    "buckets": buckets,
                },
            )

    async def forget(self, days: int) -> None:
        """Delete what is older."""
        await self._session.execute(_FORGET, {"days": days})
