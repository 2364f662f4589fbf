"""SQL of connected stores."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import ConnectedStore
from slipway_gateway.data.store.records import store_of
from slipway_gateway.data.tables import StoreRow
from slipway_gateway.identity.access import owner_ids
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.tables import ProjectRow
from slipway_gateway.secrets.store import not_under


class StoreStore:
    """Reads and writes connected stores in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, user_id: int, project_id: UUID | None, request: PageRequest) -> Page[ConnectedStore]:
        """Stores that this user may see."""
        statement = _visible(user_id)
        if project_id is not None:
            statement = statement.where(StoreRow.id.in_(_of_project(project_id)))
        columns = StoreRow.__table__.c
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={"name": columns.name, "ctime": columns.created_at},
            default="name",
            key=columns.id,
        )
        return page.of([store_of(row[0]) for row in page.items])

    async def visible(self, user_id: int, store_id: UUID) -> ConnectedStore | None:
        """One store that this user may see."""
        row = await self._session.scalar(_visible(user_id).where(StoreRow.id == store_id))
        return None if row is None else store_of(row)

    async def of_project(self, project_id: UUID) -> list[ConnectedStore]:
        """Stores that runs of a project may use, those of the project itself first."""
        statement = (
            select(StoreRow)
            .where(StoreRow.id.in_(_of_project(project_id)))
            .order_by(StoreRow.project_id.is_(None), StoreRow.created_at)
        )
        return [store_of(row) for row in await self._session.scalars(statement)]

    async def sealed(self, store_id: UUID) -> tuple[ConnectedStore, bytes] | None:
        """A store with its encrypted credentials; deleted ones too, for their datums are still there."""
        row = await self._session.get(StoreRow, store_id)
        return None if row is None else (store_of(row), row.secret_envelope)

    async def under_other_keys(self, key_id: str, limit: int) -> Sequence[StoreRow]:
        """Some rows whose credentials are under another key of the vault, locked until the commit."""
        statement = select(StoreRow).where(not_under(StoreRow.secret_envelope, key_id)).limit(limit)
        return (await self._session.scalars(statement.with_for_update())).all()

    async def add(self, values: Mapping[str, Any]) -> None:
        """Connect a store."""
        self._session.add(StoreRow(**values))
        await self._session.flush()

    async def change(self, store_id: UUID, values: Mapping[str, Any]) -> None:
        """Change columns."""
        statement = update(StoreRow).where(StoreRow.id == store_id)
        await self._session.execute(statement.values(**values, updated_at=func.clock_timestamp()))


def _visible(user_id: int) -> Select[StoreRow]:
    return select(StoreRow).where(StoreRow.deleted_at.is_(None), StoreRow.owner_id.in_(owner_ids(user_id)))


def _of_project(project_id: UUID) -> Select[UUID]:
    owner = select(ProjectRow.owner_id).where(ProjectRow.id == project_id).scalar_subquery()
    return select(StoreRow.id).where(
        StoreRow.deleted_at.is_(None),
        StoreRow.owner_id == owner,
        StoreRow.project_id.is_(None) | (StoreRow.project_id == project_id),
    )
