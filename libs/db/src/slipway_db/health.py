"""What a service tells of itself to operators: its parts, loops, event consumers and clock."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter
from sqlalchemy import text

from slipway_db.database import Database
from slipway_db.loops import LoopRunner
from slipway_kit.clock import Clock
from slipway_kit.health import ReadyCheck, run_checks
from slipway_schemas.health import ConsumerHealth, ServiceHealth

_TIMEOUT_SECONDS = 5.0
_CONSUMERS = text("""
SELECT c.consumer, c.publisher, c.position, count(d.position) FILTER (WHERE d.parked_at IS NULL) AS waiting,
    count(d.parked_at) AS parked,
    (array_agg(d.error ORDER BY d.position) FILTER (WHERE d.error IS NOT NULL))[1] AS error
FROM cursors c LEFT JOIN dead_letter d ON d.consumer = c.consumer GROUP BY c.consumer, c.publisher, c.position
ORDER BY c.consumer
""")

Figures = Callable[[], Awaitable[dict[str, float]]]


class HealthBoard:
    """Collects the health of one process of a service; its loop runner reports to it."""

    def __init__(self, service: str, version: str, db: Database, clock: Clock) -> None:
        self._service = service
        self._version = version
        self._db = db
        self._clock = clock
        self._runner: LoopRunner | None = None

    def watch(self, runner: LoopRunner) -> LoopRunner:
        """Report on these loops; returns them."""
        self._runner = runner
        return runner

    async def report(self, checks: Sequence[ReadyCheck], figures: Figures | None = None) -> ServiceHealth:
        """Look at everything now. A database that does not answer leaves out what only it knows."""
        found = await run_checks(checks)
        consumers: tuple[ConsumerHealth, ...] = ()
        skew = None
        numbers: dict[str, float] = {}
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                consumers, skew = await self._database()
                numbers = await figures() if figures is not None else {}
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the rest is told
            found["figures"] = type(error).__name__
        return ServiceHealth(
            service=self._service,
            version=self._version,
            at=self._clock.now(),
            checks=found,
            database_skew_seconds=skew,
            loops=self._runner.health() if self._runner is not None else (),
            consumers=consumers,
            figures=numbers,
        )

    async def _database(self) -> tuple[tuple[ConsumerHealth, ...], float]:
        async with self._db.read() as session:
            asked = self._clock.now()
            theirs = await session.scalar(text("SELECT clock_timestamp()"))
            answered = self._clock.now()
            consumers = []
            for row in (await session.execute(_CONSUMERS)).mappings().all():
                head = await session.scalar(
                    text(f"SELECT coalesce(max(position), 0) FROM {row['publisher']}_pub.event_v1")  # noqa: S608
                )
                consumers.append(
                    ConsumerHealth(
                        name=row["consumer"],
                        publisher=row["publisher"],
                        behind=max(0, int(head or 0) - row["position"]),
                        waiting=row["waiting"],
                        parked=row["parked"],
                        error=row["error"] or "",
                    )
                )
        skew = (asked + (answered - asked) / 2 - theirs).total_seconds() if theirs is not None else 0.0
        return tuple(consumers), skew


async def described_only() -> ServiceHealth:
    """Stands for a report in an app that is built to describe itself, and answers nothing."""
    raise RuntimeError("This app has no service behind it.")


def health_router(report: Callable[[], Awaitable[ServiceHealth]]) -> APIRouter:
    """`GET /internal/v1/health`."""
    router = APIRouter(prefix="/internal/v1", tags=["health"])

    @router.get("/health")
    async def health() -> ServiceHealth:
        """What the service tells of itself to operators."""
        return await report()

    return router
