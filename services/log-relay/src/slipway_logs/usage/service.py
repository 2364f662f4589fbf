"""Taking and reading usage series."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar
from uuid import UUID

from slipway_db.database import Database
from slipway_kit.errors import Invalid
from slipway_logs.attempts import attempts_of
from slipway_logs.ingest.access import AttemptAccess
from slipway_logs.usage.store import UsageStore
from slipway_logs.usage.writer import UsageWriter
from slipway_schemas.tokens import AttemptClaims
from slipway_schemas.usage import UsageBatch, UsageSample, UsageSeries

T = TypeVar("T")


class UsageService:
    """Series of attempts."""

    def __init__(self, db: Database, writer: UsageWriter, access: AttemptAccess) -> None:
        self._db = db
        self._writer = writer
        self._access = access

    async def take(self, claims: AttemptClaims, batch: UsageBatch) -> int:
        """Store a batch. Raises `Superseded` when the attempt is not the current one, `Invalid`, `Unavailable`."""
        await self._access.standing(claims)
        times = [sample.time_us for sample in batch.samples]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise Invalid("Samples must be in the order of their times.", field="samples")
        await self._writer.write(claims.attempt_id, batch.samples)
        return len(times)

    async def series(self, execution_id: UUID, most_points: int) -> list[UsageSeries]:
        """The series of every attempt that has one, first attempt first."""
        found = []
        async with self._db.read() as session:
            for attempt in await attempts_of(session, execution_id):
                samples = await UsageStore(session).series(attempt.id)
                if samples:
                    shown = tuple(UsageSample.model_validate(one) for one in thinned(samples, most_points))
                    found.append(
                        UsageSeries(attempt_id=attempt.id, number=attempt.number, count=len(samples), samples=shown)
                    )
        return found


def thinned(series: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` (2 or more) of the series at equal distances, the first and the last among them."""
    if len(series) <= most:
        return series
    step = (len(series) - 1) / (most - 1)
    return [series[round(index * step)] for index in range(most)]
