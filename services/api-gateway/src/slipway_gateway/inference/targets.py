"""Use cases of deployment targets: everybody may choose one, administrators add, change, test and remove them."""

from collections.abc import Sequence
from uuid import UUID

from slipway_db import Database
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.builder import CREATE_SECONDS, INTERNAL, refused_fields
from slipway_gateway.inference.domain.records import Target
from slipway_gateway.inference.store.deployments import DeploymentStore
from slipway_kit.errors import NotFound
from slipway_kit.http import Neighbour
from slipway_schemas.inference.versions import (
    CleanUpReport,
    TargetChange,
    TargetChecks,
    TargetCreated,
    TargetDetail,
    TargetDraft,
)

_CHECK_SECONDS = 60.0
_CLEAN_UP_SECONDS = 300.0


class TargetService:
    """All but `all` raise `NotFound` for others than administrators, and for a target that is not there."""

    def __init__(self, db: Database, builder: Neighbour) -> None:
        self._db = db
        self._builder = builder

    async def all(self) -> Sequence[Target]:
        """All targets, the default one first."""
        async with self._db.read() as session:
            return await DeploymentStore(session).targets()

    async def detail(self, user: User, target_id: UUID) -> TargetDetail:
        """A target with its settings, in which secrets are masked."""
        path = await self._path(user, target_id)
        return await self._builder.get(path, result=TargetDetail, actor=user.id)

    async def create(self, user: User, draft: TargetDraft) -> TargetCreated:
        """A new target, with the token of its routers. Raises `Invalid`."""
        _administrator(user)
        with refused_fields():
            return await self._builder.post(
                f"{INTERNAL}/targets", body=draft, result=TargetCreated, actor=user.id, timeout=CREATE_SECONDS
            )

    async def change(self, user: User, target_id: UUID, change: TargetChange) -> None:
        """Change a target; what it serves is applied again. Raises `Invalid`."""
        path = await self._path(user, target_id)
        with refused_fields():
            await self._builder.patch(path, body=change, actor=user.id, timeout=CREATE_SECONDS)

    async def delete(self, user: User, target_id: UUID, *, force: bool) -> None:
        """Forget a target. Raises `Conflict` while it has deployments, or still has to let go of endpoints."""
        path = await self._path(user, target_id)
        await self._builder.delete(f"{path}?force={'true' if force else 'false'}", actor=user.id)

    async def renew_router_token(self, user: User, target_id: UUID) -> TargetCreated:
        """A new token of the target's routers; the one before opens nothing from now on."""
        path = await self._path(user, target_id)
        return await self._builder.post(f"{path}/router-token", result=TargetCreated, actor=user.id)

    async def check(self, user: User, target_id: UUID) -> TargetChecks:
        """Test the connection and every right that is needed."""
        path = await self._path(user, target_id)
        return await self._builder.post(f"{path}/check", result=TargetChecks, actor=user.id, timeout=_CHECK_SECONDS)

    async def clean_up(self, user: User, target_id: UUID, *, dry_run: bool) -> CleanUpReport:
        """Delete the images that no version needs, or say which those are. Raises `Conflict` while images are built
        for the target."""
        path = f"{await self._path(user, target_id)}/clean-up?dry_run={'true' if dry_run else 'false'}"
        return await self._builder.post(path, result=CleanUpReport, actor=user.id, timeout=_CLEAN_UP_SECONDS)

    async def _path(self, user: User, target_id: UUID) -> str:
        _administrator(user)
        async with self._db.read() as session:
            if await DeploymentStore(session).target(target_id) is None:
                raise NotFound("This target does not exist.")
        return f"{INTERNAL}/targets/{target_id}"


def _administrator(user: User) -> None:
    if not user.is_admin:
        raise NotFound("There is nothing here.")
