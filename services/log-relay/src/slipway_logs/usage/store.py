"""SQL of usage series."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_logs.usage.tables import UsageBlockRow
from slipway_schemas.usage import UsageSample

BLOCK_US = 3 * 3600 * 1_000_000
"""A block spans three hours: about 1,000 samples at one in ten seconds."""


class UsageStore:
    """Read and write samples within one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, batches: Sequence[tuple[UUID, Sequence[UsageSample]]]) -> None:
        """Append samples of many attempts. A batch that is there already changes nothing."""
        rows = [row for attempt_id, samples in batches for row in _rows(attempt_id, samples)]
        statement = insert(UsageBlockRow)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["attempt_id", "block"],
                set_={
                    "samples": UsageBlockRow.samples.concat(statement.excluded.samples),
                    "last_us": statement.excluded.last_us,
                },
                where=UsageBlockRow.last_us < statement.excluded.first_us,
            ),
            # In one order everywhere, so that two replicas cannot wait for each other.
            sorted(rows, key=lambda row: (row["attempt_id"], row["block"])),
        )

    async def series(self, attempt_id: UUID) -> list[Any]:
        """All samples of an attempt as JSON objects (`UsageSample`), oldest first."""
        rows = await self._session.scalars(
            select(UsageBlockRow.samples).where(UsageBlockRow.attempt_id == attempt_id).order_by(UsageBlockRow.block)
        )
        return [sample for samples in rows for sample in samples]

    async def delete(self, attempt_id: UUID) -> None:
        """Forget an attempt's samples."""
        await self._session.execute(delete(UsageBlockRow).where(UsageBlockRow.attempt_id == attempt_id))


def _rows(attempt_id: UUID, samples: Sequence[UsageSample]) -> list[dict[str, Any]]:
    blocks: dict[int, list[UsageSample]] = {}
    for sample in samples:
        blocks.setdefault(sample.time_us // BLOCK_US, []).append(sample)
    return [
        {
            "attempt_id": attempt_id,
            "block": block,
            "first_us": parts[0].time_us,
            "last_us": parts[-1].time_us,
            "samples": [part.model_dump(mode="json", exclude_defaults=True) for part in parts],
        }
        for block, parts in blocks.items()
    ]
