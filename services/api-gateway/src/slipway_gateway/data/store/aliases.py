"""SQL of datum aliases."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import Alias
from slipway_gateway.data.store.records import alias_of, datum_of, select_datums
from slipway_gateway.data.tables import AliasRow, DatumRow
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.store import visible_project_ids


class AliasStore:
    """Reads and writes aliases in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, user_id: int, project_id: UUID | None, name: str | None, request: PageRequest) -> Page[Alias]:
        """Aliases of projects that this user may see."""
        statement = _visible(user_id)
        if project_id is not None:
            statement = statement.where(AliasRow.project_id == project_id)
        if name is not None:
            statement = statement.where(func.lower(AliasRow.name) == name.lower())
        columns = AliasRow.__table__.c
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={"name": columns.name, "ctime": columns.created_at, "mtime": columns.updated_at},
            default="name",
            key=columns.id,
        )
        return page.of(await self._with_datums([row[0] for row in page.items]))

    async def visible(self, user_id: int, alias_id: UUID) -> Alias | None:
        """One alias of a project that this user may see."""
        row = await self._session.scalar(_visible(user_id).where(AliasRow.id == alias_id))
        return None if row is None else (await self._with_datums([row]))[0]

    async def resolve(self, project_id: UUID, names: Sequence[str]) -> dict[str, UUID]:
        """The datum of each of these names (lower case) that points at one."""
        lowered = func.lower(AliasRow.name)
        statement = select(lowered, AliasRow.datum_id).where(
            AliasRow.project_id == project_id, lowered.in_(names), AliasRow.datum_id.is_not(None)
        )
        return {row[0]: row[1] for row in await self._session.execute(statement)}

    async def put(self, project_id: UUID, name: str, datum_id: UUID | None) -> UUID:
        """Create the alias, or move it."""
        statement = insert(AliasRow).values(project_id=project_id, name=name, datum_id=datum_id)
        statement = statement.on_conflict_do_update(
            index_elements=[AliasRow.project_id, text("lower(name)")],
            set_={"datum_id": datum_id, "updated_at": func.now()},
        )
        return (await self._session.execute(statement.returning(AliasRow.id))).scalar_one()

    async def add(self, project_id: UUID, name: str, datum_id: UUID | None) -> UUID | None:
        """Create the alias; None when the project has one of that name."""
        statement = insert(AliasRow).values(project_id=project_id, name=name, datum_id=datum_id)
        added: UUID | None = await self._session.scalar(statement.on_conflict_do_nothing().returning(AliasRow.id))
        return added

    async def point(self, alias_id: UUID, datum_id: UUID | None) -> None:
        """Move the alias."""
        statement = update(AliasRow).where(AliasRow.id == alias_id)
        await self._session.execute(statement.values(datum_id=datum_id, updated_at=func.now()))

    async def remove(self, alias_id: UUID) -> None:
        """Delete the alias; the datum stays."""
        await self._session.execute(delete(AliasRow).where(AliasRow.id == alias_id))

    async def _with_datums(self, rows: Sequence[AliasRow]) -> list[Alias]:
        ids = [row.datum_id for row in rows if row.datum_id is not None]
        found = await self._session.execute(select_datums().where(DatumRow.id.in_(ids))) if ids else ()
        datums = {row[0].id: datum_of(row) for row in found}
        return [alias_of(row, datums.get(row.datum_id) if row.datum_id else None) for row in rows]


def _visible(user_id: int) -> Select[AliasRow]:
    return select(AliasRow).where(AliasRow.project_id.in_(visible_project_ids(user_id)))
