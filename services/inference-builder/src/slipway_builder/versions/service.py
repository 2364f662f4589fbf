"""Use cases of versions."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.service import DeploymentService
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.endpoints.store import EndpointStore
from slipway_builder.images.store import ImageStore
from slipway_builder.versions.domain import next_name
from slipway_builder.versions.store import Version, VersionStore
from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict, NotFound
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import Created, NameSuggestion, VersionChange, VersionDraft

NAME_OF_VERSION = "version"


class VersionService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, clock: Clock) -> None:
        self._session = session
        self._store = VersionStore(session)
        self._deployments = DeploymentStore(session)
        self._clock = clock

    async def suggest(self, deployment_id: UUID) -> NameSuggestion:
        """The next free name of today. Raises `NotFound`."""
        await DeploymentService(self._session).get(deployment_id)
        return NameSuggestion(name=next_name(self._clock.now(), await self._store.names(deployment_id)))

    async def create(self, draft: VersionDraft) -> Created:
        """Make a version with its endpoints and images; the same id again gets the same answer.

        Raises `NotFound`, `Conflict` (`unique`, field `name`) when a version or an alias has the name, `Invalid` for a
        scale that the target cannot follow.
        """
        await self._deployments.lock(draft.deployment_id)
        known = await self._store.get(draft.id)
        if known is not None:
            return Created(id=known.id, name=known.name)
        deployment = await DeploymentService(self._session).get(draft.deployment_id)
        for endpoint in draft.endpoints:
            await EndpointService(self._session).check_scale(
                deployment.target_id, endpoint.scale, field="endpoint_configurations"
            )
        name = draft.name or (await self.suggest(draft.deployment_id)).name
        try:
            async with self._session.begin_nested():
                await self._deployments.take_name(draft.deployment_id, name, NAME_OF_VERSION)
        except IntegrityError as error:
            kind = await self._deployments.kind_of_name(draft.deployment_id, name)
            article = "An alias" if kind == "alias" else "A version"
            raise Conflict(
                f"{article} of this deployment is named {name!r} already. Choose another name.",
                field="name",
                code="unique",
            ) from error
        await self._store.insert(draft, name)
        for endpoint in draft.endpoints:
            image_id = new_id()
            await ImageStore(self._session).insert(
                image_id, version_id=draft.id, target_id=deployment.target_id, base=endpoint.spec.image
            )
            await EndpointStore(self._session).insert(
                id=new_id(),
                version_id=draft.id,
                deployment_id=draft.deployment_id,
                target_id=deployment.target_id,
                image_id=image_id,
                name=endpoint.spec.name,
                spec=endpoint.spec.model_dump(mode="json"),
                scale=endpoint.scale.model_dump(mode="json"),
                enabled=endpoint.enabled,
                modified_at=self._clock.now(),
            )
        await EndpointService(self._session).refresh(draft.deployment_id)
        return Created(id=draft.id, name=name)

    async def get(self, version_id: UUID) -> Version:
        """Return a version. Raises `NotFound`."""
        version = await self._store.get(version_id)
        if version is None:
            raise NotFound(f"There is no version {version_id}.")
        return version

    async def change(self, version_id: UUID, wanted: VersionChange) -> None:
        """Enable or disable a version. Raises `NotFound`."""
        version = await self.get(version_id)
        await self._deployments.lock(version.deployment_id)
        if wanted.enabled is not None:
            await self._store.update(version_id, {"enabled": wanted.enabled})
        await EndpointService(self._session).refresh(version.deployment_id)

    async def delete(self, version_id: UUID) -> None:
        """Delete a version. Raises `NotFound`, `Conflict` (`in_use`) while an alias points at it."""
        version = await self.get(version_id)
        await self._deployments.lock(version.deployment_id)
        aliases = await self._store.aliases_of(version_id)
        if aliases:
            names = ", ".join(sorted(aliases))
            raise Conflict(
                f"The version is in use: {names} points at it. Move or delete that alias first.", code="in_use"
            )
        await self._store.update(version_id, {"deleted_at": text("now()"), "enabled": False})
        await self._deployments.free_name(version.deployment_id, version.name)
        await ImageStore(self._session).cancel_of_version(version_id)
        await EndpointService(self._session).refresh(version.deployment_id)

    async def rebuild(self, version_id: UUID) -> None:
        """Build the failed and cancelled images again. Raises `NotFound`, `Conflict` when there are none."""
        version = await self.get(version_id)
        await self._deployments.lock(version.deployment_id)
        if not await ImageStore(self._session).retry_of_version(version_id):
            raise Conflict("No image of this version has failed: there is nothing to build again.", code="not_failed")
        await EndpointService(self._session).refresh(version.deployment_id)

    async def cancel(self, version_id: UUID) -> None:
        """Stop the builds of a version. Raises `NotFound`."""
        version = await self.get(version_id)
        await self._deployments.lock(version.deployment_id)
        await ImageStore(self._session).cancel_of_version(version_id)
        await EndpointService(self._session).refresh(version.deployment_id)
