"""Use cases of environments."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.environments.domain import Environment
from slipway_gateway.environments.store import EnvironmentStore
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_kit.errors import NotFound


class EnvironmentService:
    """Environments that the caller may use: those of everybody, the caller's own, the caller's organizations'."""

    def __init__(self, session: AsyncSession) -> None:
        self._store = EnvironmentStore(session)

    async def page(self, user: User, request: PageRequest) -> Page[Environment]:
        """One page, by name where no other order is asked for. Raises `Invalid` on `ordering`."""
        return await self._store.page(user.id, request)

    async def resolve(self, user: User, reference: str | UUID) -> Environment:
        """An environment by id or slug. Raises `NotFound`."""
        try:
            found = await self._store.by_id(user.id, UUID(str(reference)))
        except ValueError:
            found = await self._store.by_slug(user.id, str(reference))
        if found is None:
            raise NotFound(f"The environment {str(reference)!r} does not exist, or you may not use it.")
        return found
