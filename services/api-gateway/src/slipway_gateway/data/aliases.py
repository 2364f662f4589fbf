"""Use cases of datum aliases."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.data.domain import ALIAS_NAME, Alias, Datum
from slipway_gateway.data.store.aliases import AliasStore
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.store import ProjectStore
from slipway_kit.errors import Invalid, NotFound


class AliasService:
    """Aliases, in the unit of work of its caller."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = AliasStore(session)

    async def page(self, user: User, project_id: UUID | None, name: str | None, request: PageRequest) -> Page[Alias]:
        """Aliases that the user may see."""
        return await self._store.page(user.id, project_id, name, request)

    async def get(self, user: User, alias_id: UUID) -> Alias:
        """One alias. Raises `NotFound`."""
        found = await self._store.visible(user.id, alias_id)
        if found is None:
            raise NotFound("This alias does not exist, or you may not see it.")
        return found

    async def resolve(self, user: User, project_id: UUID, name: str) -> Datum:
        """The datum that an alias points at. Raises `NotFound`."""
        await self._check_project(user, project_id)
        name = name.removeprefix("datum://").lower()
        datum_id = (await self._store.resolve(project_id, [name])).get(name)
        datum = None if datum_id is None else await DatumStore(self._session).visible(user.id, datum_id)
        if datum is None:
            raise NotFound(f"The project has no alias {name!r:.140} that points at a file.")
        return datum

    async def create(self, user: User, project_id: UUID, name: str, datum_id: UUID | None) -> Alias:
        """A new alias. Raises `NotFound`, `Invalid` on `name`, `datum`."""
        await self._check_project(user, project_id)
        if not ALIAS_NAME.fullmatch(name):
            raise Invalid("An alias has letters, digits, '.', '_' and '-'; at most 128.", field="name")
        await self._check_datum(project_id, datum_id)
        alias_id = await self._store.add(project_id, name, datum_id)
        if alias_id is None:
            raise Invalid(f"The project already has an alias {name!r}.", field="name", code="unique")
        return await self.get(user, alias_id)

    async def point(self, user: User, alias_id: UUID, datum_id: UUID | None) -> Alias:
        """Move an alias to another datum, or to none. Raises `NotFound`, `Invalid` on `datum`."""
        alias = await self.get(user, alias_id)
        await self._check_datum(alias.project_id, datum_id)
        await self._store.point(alias.id, datum_id)
        return await self.get(user, alias_id)

    async def delete(self, user: User, alias_id: UUID) -> None:
        """Delete an alias; its datum stays. Raises `NotFound`."""
        await self._store.remove((await self.get(user, alias_id)).id)

    async def _check_project(self, user: User, project_id: UUID) -> None:
        if await ProjectStore(self._session).visible(user.id, project_id) is None:
            raise NotFound("This project does not exist, or you may not see it.")

    async def _check_datum(self, project_id: UUID, datum_id: UUID | None) -> None:
        if datum_id is not None and not await DatumStore(self._session).in_project(project_id, [datum_id]):
            raise Invalid(
                "An alias points at a file of its own project whose bytes are still there.",
                field="datum",
                code="does_not_exist",
            )
