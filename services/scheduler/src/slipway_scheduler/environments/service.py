"""Use cases of environments and group tokens."""

from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import notify, unique_violation
from slipway_kit.auth import new_secret_token, token_hash
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_scheduler.channels import DISPATCH
from slipway_scheduler.environments.store import Environment, EnvironmentStore
from slipway_schemas.environments import EnvironmentCreate, EnvironmentPatch, EnvironmentView, GroupTokenCreated

STATIC_PROVIDER = "static"
"""Workers join by themselves with a group token; nothing is started or stopped for them."""


class EnvironmentService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, pepper: str) -> None:
        self._session = session
        self._store = EnvironmentStore(session)
        self._pepper = pepper

    async def create(self, wanted: EnvironmentCreate) -> EnvironmentView:
        """Add an environment. Raises `Conflict` when the slug is taken, `Invalid` for an unknown provider."""
        if wanted.provider != STATIC_PROVIDER:
            raise Invalid(
                f"There is no provider {wanted.provider!r}. Use {STATIC_PROVIDER!r}: workers join by a group token.",
                field="provider",
            )
        try:
            return _view(await self._store.insert(wanted))
        except IntegrityError as error:
            if unique_violation(error) == "uq_environments_slug":
                raise Conflict(
                    f"An environment with the slug {wanted.slug!r} exists. Choose another slug.", field="slug"
                ) from error
            raise

    async def patch(self, environment_id: UUID, patch: EnvironmentPatch) -> EnvironmentView:
        """Change an environment. Raises `NotFound`."""
        await self.get(environment_id)
        values = patch.model_dump(exclude_none=True, mode="json")
        if values:
            await self._store.update(environment_id, values)
            await notify(self._session, DISPATCH)
        self._session.expire_all()
        return _view(await self.get(environment_id))

    async def delete(self, environment_id: UUID) -> None:
        """Delete an environment; what runs in it goes on, nothing new is dispatched. Raises `NotFound`."""
        await self.get(environment_id)
        await self._store.delete(environment_id)

    async def create_token(self, environment_id: UUID) -> GroupTokenCreated:
        """Make a group token. It is shown this once. Raises `NotFound`."""
        await self.get(environment_id)
        token = new_secret_token()
        token_id = await self._store.add_token(environment_id, token_hash(token, self._pepper))
        return GroupTokenCreated(id=token_id, token=token)

    async def revoke_token(self, environment_id: UUID, token_id: UUID) -> None:
        """End a group token: no further machine joins with it. Raises `NotFound`."""
        if not await self._store.revoke_token(environment_id, token_id):
            raise NotFound(f"The environment has no group token {token_id} in use.")

    async def get(self, environment_id: UUID) -> Environment:
        """Return an environment. Raises `NotFound`."""
        environment = await self._store.get(environment_id)
        if environment is None:
            raise NotFound(f"There is no environment {environment_id}.")
        return environment


def _view(environment: Environment) -> EnvironmentView:
    return EnvironmentView(id=environment.id, slug=environment.slug, name=environment.name, enabled=environment.enabled)
