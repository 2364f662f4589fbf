"""SQL of the sweeps of object stores."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Table, func, or_, select, union
from sqlalchemy import literal as constant
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import leases
from slipway_gateway.data.domain import BUILT_IN_STORE_ID
from slipway_gateway.data.tables import StoreRow, StoreSweepRow

_AT_ONCE = 10


@dataclass(frozen=True)
class SweepLease:
    """Stores that the holder of the token sweeps now."""

    token: UUID
    ids: tuple[UUID, ...]


class SweepStore:
    """Reads and writes which store was swept when, in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._table: Table = StoreSweepRow.metadata.tables[StoreSweepRow.__tablename__]

    async def take(self, every: timedelta, seconds: float) -> SweepLease:
        """Lease the stores that were not swept for so long, for so many seconds."""
        stores = select(StoreRow.id).where(StoreRow.deleted_at.is_(None), StoreRow.allow_write)
        all_stores = union(select(constant(BUILT_IN_STORE_ID)), stores)
        await self._session.execute(
            insert(StoreSweepRow).from_select(["id"], all_stores).on_conflict_do_nothing(index_elements=["id"])
        )
        swept = StoreSweepRow.swept_at
        turn = or_(swept.is_(None), swept < func.now() - every)
        lease = await leases.fetch(
            self._session, self._table, turn, order_by=[swept.nulls_first()], limit=_AT_ONCE, seconds=seconds
        )
        return SweepLease(lease.token, tuple(row["id"] for row in lease.rows))

    async def done(self, sweep_id: UUID, token: UUID) -> None:
        """The store was swept now."""
        await leases.apply(self._session, self._table, sweep_id, token, {"swept_at": func.now()})
