"""Use cases of deployments."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.store import Deployment, DeploymentStore
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.targets.store import Target, TargetStore
from slipway_db import unique_violation
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_schemas.inference.versions import Created, DeploymentChange, DeploymentDraft


class DeploymentService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = DeploymentStore(session)

    async def create(self, draft: DeploymentDraft) -> Created:
        """Make a deployment; the same id again gets the same answer.

        Raises `Invalid` for an unknown target, `Conflict` (`unique`, field `name`) for a name that is taken.
        """
        known = await self._store.get(draft.id)
        if known is not None:
            return Created(id=known.id, name=known.name)
        target = await self._target(draft.target)
        try:
            async with self._session.begin_nested():
                await self._store.insert(draft, target.id)
        except IntegrityError as error:
            if unique_violation(error) == "uq_deployments_path_name":
                raise Conflict(
                    f"The project has a deployment {draft.name!r} already. Choose another name.",
                    field="name",
                    code="unique",
                ) from error
            raise
        return Created(id=draft.id, name=draft.name)

    async def get(self, deployment_id: UUID) -> Deployment:
        """Return a deployment. Raises `NotFound`."""
        deployment = await self._store.get(deployment_id)
        if deployment is None:
            raise NotFound(f"There is no deployment {deployment_id}.")
        return deployment

    async def change(self, deployment_id: UUID, wanted: DeploymentChange) -> None:
        """Enable, disable, open or close a deployment. Raises `NotFound`."""
        await self._store.lock(deployment_id)
        await self.get(deployment_id)
        values = wanted.model_dump(exclude_none=True)
        if values:
            await self._store.update(deployment_id, values)
            await EndpointService(self._session).refresh(deployment_id)

    async def delete(self, deployment_id: UUID) -> None:
        """Delete a deployment: its URLs answer 404, its replicas go, its keys open nothing. Raises `NotFound`."""
        await self._store.lock(deployment_id)
        await self.get(deployment_id)
        await self._store.update(deployment_id, {"deleted_at": text("now()"), "enabled": False})
        await EndpointService(self._session).refresh(deployment_id)

    async def delete_project(self, project_id: UUID) -> None:
        """Delete all deployments of a project."""
        for deployment_id in await self._store.of_project(project_id):
            await self.delete(deployment_id)

    async def _target(self, wanted: UUID | str | None) -> Target:
        targets = await TargetStore(self._session).all()
        if wanted is None:
            found = next((one for one in targets if one.is_default), None)
            missing = "There is no default deployment target. Name one, or ask an administrator to add one."
        else:
            found = next((one for one in targets if wanted in (one.id, str(one.id), one.name)), None)
            known = ", ".join(one.name for one in targets) or "none"
            missing = f"There is no deployment target {wanted!r}; there are: {known}."
        if found is None:
            raise Invalid(missing, field="target", code="does_not_exist")
        return found
