"""SQL of metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_logs.metadata.tables import MetadataBlockRow, MetadataLatestRow
from slipway_logs.sources import LogSource

BLOCK_RECORDS = 1000

Record = tuple[int, dict[str, Any]]
"""Time in µs since 1970, and the object that was printed."""


@dataclass(frozen=True, slots=True)
class Addition:
    """New records of an attempt: `first` is the number of the first of them."""

    source: LogSource
    first: int
    records: Sequence[Record]
    latest: Mapping[str, Any]


class MetadataStore:
    """Read and write series and last values within one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_and_count(self, attempt_ids: Sequence[UUID]) -> dict[UUID, int]:
        """How many records each attempt has; nobody else can add to them until the transaction ends."""
        # In one order everywhere, so that two replicas cannot wait for each other.
        keys = sorted(attempt.int & 0x7FFFFFFFFFFFFFFF for attempt in attempt_ids)
        await self._session.execute(
            text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS keys(key)"), {"keys": keys}
        )
        rows = await self._session.execute(
            select(MetadataBlockRow.attempt_id, func.max(MetadataBlockRow.first + MetadataBlockRow.count))
            .where(MetadataBlockRow.attempt_id.in_(attempt_ids))
            .group_by(MetadataBlockRow.attempt_id)
        )
        return {attempt_id: int(count) for attempt_id, count in rows}

    async def count(self, attempt_id: UUID) -> int:
        """How many records the attempt has."""
        end = func.max(MetadataBlockRow.first + MetadataBlockRow.count)
        return int(await self._session.scalar(select(end).where(MetadataBlockRow.attempt_id == attempt_id)) or 0)

    async def add(self, additions: Sequence[Addition]) -> None:
        """Append records and move the last values of their executions."""
        blocks = [block for addition in additions for block in _blocks(addition)]
        statement = insert(MetadataBlockRow)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["attempt_id", "first"],
                set_={
                    "records": MetadataBlockRow.records.concat(statement.excluded.records),
                    "count": MetadataBlockRow.count + statement.excluded.count,
                },
            ),
            blocks,
        )
        of_executions = [one for one in additions if one.source.replica is None]
        if of_executions:
            await self._move_latest(of_executions)

    async def _move_latest(self, additions: Sequence[Addition]) -> None:
        latest = insert(MetadataLatestRow)
        newer = MetadataLatestRow.number < latest.excluded.number
        await self._session.execute(
            latest.on_conflict_do_update(
                index_elements=["execution_id"],
                set_={
                    "attempt_id": latest.excluded.attempt_id,
                    "number": latest.excluded.number,
                    "values": func.coalesce(
                        # A newer attempt starts from nothing; the same attempt adds to what it said before.
                        text(
                            "CASE WHEN metadata_latest.number < excluded.number THEN NULL"
                            " ELSE metadata_latest.values || excluded.values END"
                        ),
                        latest.excluded["values"],
                    ),
                    "records": latest.excluded.records,
                },
                where=newer | (MetadataLatestRow.number == latest.excluded.number),
            ),
            [
                {
                    "execution_id": addition.source.execution_id,
                    "attempt_id": addition.source.attempt_id,
                    "number": addition.source.number,
                    "values": dict(addition.latest),
                    "records": addition.first + len(addition.records),
                }
                for addition in additions
            ],
        )

    async def delete(self, execution_id: UUID, attempt_id: UUID) -> None:
        """Forget an attempt's records, and what its execution shows of them."""
        await self._session.execute(delete(MetadataBlockRow).where(MetadataBlockRow.attempt_id == attempt_id))
        await self._session.execute(
            delete(MetadataLatestRow).where(
                MetadataLatestRow.execution_id == execution_id, MetadataLatestRow.attempt_id == attempt_id
            )
        )

    async def series(self, attempt_id: UUID) -> list[Record]:
        """All records of an attempt, in order."""
        rows = await self._session.execute(
            select(MetadataBlockRow.records)
            .where(MetadataBlockRow.attempt_id == attempt_id)
            .order_by(MetadataBlockRow.first)
        )
        return [(int(time_us), values) for records in rows.scalars() for time_us, values in records]


def _blocks(addition: Addition) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for position, record in enumerate(addition.records, start=addition.first):
        first = position - position % BLOCK_RECORDS
        if not blocks or blocks[-1]["first"] != first:
            blocks.append({"attempt_id": addition.source.attempt_id, "first": first, "count": 0, "records": []})
        blocks[-1]["records"].append([record[0], record[1]])
        blocks[-1]["count"] += 1
    return blocks
