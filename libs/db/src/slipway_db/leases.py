"""Leases of rows for loops that leave the database: fetch with a token, work, apply with the token.

The table needs the columns of `LeaseColumns` and an `id`. The database clock alone judges leases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Table, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.functions import now

from slipway_kit.ids import new_id


class LeaseColumns:
    """Mixin for mapped classes whose rows are leased."""

    lease_token: Mapped[UUID | None] = mapped_column(default=None)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)


@dataclass(frozen=True)
class Lease:
    """Rows that belong to the holder of `token` for a while."""

    token: UUID
    rows: Sequence[RowMapping]


async def fetch(
    session: AsyncSession,
    table: Table,
    where: ColumnElement[bool],
    *,
    order_by: Sequence[ColumnElement[Any]],
    limit: int,
    seconds: float,
) -> Lease:
    """Lease up to `limit` free rows for `seconds`; rows that others hold or lock are passed over."""
    token = new_id()
    free = or_(table.c.leased_until.is_(None), table.c.leased_until < now())
    chosen = (
        select(table.c.id)
        .where(where, free)
        .order_by(*order_by)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    leased = (
        update(table)
        .where(table.c.id == chosen.c.id)
        .values(lease_token=token, leased_until=now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds))
        .returning(*table.c)
    )
    rows = (await session.execute(leased)).mappings().all()
    return Lease(token=token, rows=rows)


async def apply(session: AsyncSession, table: Table, row_id: UUID, token: UUID, values: Mapping[str, Any]) -> bool:
    """Write the outcome and give the row back. False: the lease is someone else's by now, drop the outcome."""
    changed = await session.execute(
        update(table)
        .where(table.c.id == row_id, table.c.lease_token == token)
        .values(**values, lease_token=None, leased_until=None)
        .returning(table.c.id)
    )
    return changed.first() is not None
