"""SQL of datums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import Datum
from slipway_gateway.data.store.records import datum_of, select_datums
from slipway_gateway.data.tables import DatumRow
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.store import visible_project_ids


@dataclass(frozen=True)
class DatumFilter:
    """Which datums a list shows. None = any."""

    project_id: UUID | None = None
    output_execution_id: UUID | None = None
    tags: tuple[str, ...] = ()
    name: str | None = None
    deleted: bool | None = False
    purged: bool | None = None


class DatumStore:
    """Reads and writes datums in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def visible(self, user_id: int, datum_id: UUID) -> Datum | None:
        """A datum of a project that this user may see."""
        statement = select_datums().where(
            DatumRow.id == datum_id,
            DatumRow.deleted_at.is_(None),
            DatumRow.project_id.in_(visible_project_ids(user_id)),
        )
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else datum_of(row)

    async def page(self, user_id: int, wanted: DatumFilter, request: PageRequest) -> Page[Datum]:
        """Datums of projects that this user may see."""
        statement = select_datums().where(DatumRow.project_id.in_(visible_project_ids(user_id)))
        if wanted.project_id is not None:
            statement = statement.where(DatumRow.project_id == wanted.project_id)
        if wanted.output_execution_id is not None:
            statement = statement.where(DatumRow.output_execution_id == wanted.output_execution_id)
        if wanted.tags:
            statement = statement.where(DatumRow.tags.overlap(cast(list(wanted.tags), ARRAY(Text))))
        if wanted.name is not None:
            statement = statement.where(DatumRow.name.icontains(wanted.name, autoescape=True))
        if wanted.deleted is not None:
            statement = statement.where(DatumRow.deleted_at.is_not(None) == wanted.deleted)
        if wanted.purged is not None:
            statement = statement.where(DatumRow.purged_at.is_not(None) == wanted.purged)
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={
                "ctime": DatumRow.__table__.c.created_at,
                "name": DatumRow.__table__.c.name,
                "size": DatumRow.__table__.c.size,
            },
            default="-ctime",
            key=DatumRow.__table__.c.id,
        )
        return page.of([datum_of(row) for row in page.items])

    async def outputs_of(self, execution_id: UUID) -> list[Datum]:
        """Everything that an execution made, oldest first."""
        statement = select_datums().where(DatumRow.output_execution_id == execution_id, DatumRow.deleted_at.is_(None))
        rows = await self._session.execute(statement.order_by(DatumRow.id))
        return [datum_of(row) for row in rows]

    async def in_project(self, project_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Datum]:
        """Those of these datums that belong to the project and still have their bytes."""
        statement = select_datums().where(
            DatumRow.project_id == project_id,
            DatumRow.id.in_(ids),
            DatumRow.deleted_at.is_(None),
            DatumRow.purged_at.is_(None),
        )
        return {row[0].id: datum_of(row) for row in await self._session.execute(statement)}

    async def usable(self, project_id: UUID, user_id: int, ids: Sequence[UUID]) -> dict[UUID, Datum]:
        """Those of these datums that a run of this project may read: its own, and those its creator may see."""
        statement = select_datums().where(
            (DatumRow.project_id == project_id) | DatumRow.project_id.in_(visible_project_ids(user_id)),
            DatumRow.id.in_(ids),
            DatumRow.deleted_at.is_(None),
            DatumRow.purged_at.is_(None),
        )
        return {row[0].id: datum_of(row) for row in await self._session.execute(statement)}

    async def by_ids(self, ids: Sequence[UUID]) -> dict[UUID, Datum]:
        """These datums, whoever they belong to: for a run whose inputs were checked when it was created."""
        if not ids:
            return {}
        return {
            row[0].id: datum_of(row) for row in await self._session.execute(select_datums().where(DatumRow.id.in_(ids)))
        }

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> list[UUID]:
        """Insert datums; returns the ids of those that were not there before."""
        if not rows:
            return []
        statement = insert(DatumRow).values(list(rows)).on_conflict_do_nothing(index_elements=[DatumRow.id])
        return list(await self._session.scalars(statement.returning(DatumRow.id)))

    async def count_of_attempt(self, attempt_id: UUID) -> int:
        """Outputs that an attempt has registered."""
        statement = select(func.count()).where(DatumRow.output_attempt_id == attempt_id)
        return await self._session.scalar(statement) or 0

    async def ids_by_name(self, attempt_id: UUID, names: Sequence[str]) -> dict[str, UUID]:
        """The newest datum of each name that the attempt has registered."""
        statement = (
            select(DatumRow.name, DatumRow.id)
            .where(DatumRow.output_attempt_id == attempt_id, DatumRow.name.in_(names))
            .order_by(DatumRow.id)
        )
        return {row[0]: row[1] for row in await self._session.execute(statement)}

    async def lock(self, ids: Sequence[UUID]) -> dict[UUID, Datum]:
        """These datums, their rows held until the commit."""
        statement = select_datums().where(DatumRow.id.in_(ids)).order_by(DatumRow.id).with_for_update(of=DatumRow)
        return {row[0].id: datum_of(row) for row in await self._session.execute(statement)}

    async def change(self, datum_id: UUID, *, properties: Mapping[str, Any], tags: Sequence[str]) -> None:
        """Replace properties and tags of a locked datum."""
        values = {"properties": dict(properties), "tags": list(tags)}
        await self._session.execute(update(DatumRow).where(DatumRow.id == datum_id).values(values))

    async def mark_purged(self, datum_id: UUID) -> bool:
        """Note that the bytes go; False when that was done before."""
        statement = (
            update(DatumRow)
            .where(DatumRow.id == datum_id, DatumRow.purged_at.is_(None))
            .values(purged_at=func.now())
            .returning(DatumRow.id)
        )
        return await self._session.scalar(statement) is not None
