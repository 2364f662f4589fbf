"""Use cases of endpoints: keep what is wanted, what is said of it and what is routed in line."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.channels import ENDPOINTS
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.domain import judge
from slipway_builder.endpoints.store import EndpointStore
from slipway_builder.routing.service import RoutingService
from slipway_builder.targets.store import TargetStore
from slipway_db import notify
from slipway_kit.errors import Invalid, NotFound
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import EndpointChange, Scale


class EndpointService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = EndpointStore(session)

    async def change(self, endpoint_id: UUID, wanted: EndpointChange) -> None:
        """Enable, disable or scale an endpoint. Raises `NotFound`, `Invalid`."""
        deployment_id = await self._store.deployment_of(endpoint_id)
        if deployment_id is None:
            raise NotFound(f"There is no endpoint {endpoint_id}.")
        await DeploymentStore(self._session).lock(deployment_id)
        values: dict[str, Any] = {}
        if wanted.enabled is not None:
            values["enabled"] = wanted.enabled
        if wanted.scale is not None:
            target_id = await self._store.target_of(endpoint_id)
            if target_id is not None:
                await self.check_scale(target_id, wanted.scale, field="replicas")
            values["scale"] = wanted.scale.model_dump(mode="json")
        if values:
            await self._store.change(endpoint_id, values, rollout=wanted.scale is not None)
        await self.refresh(deployment_id)

    async def check_scale(self, target_id: UUID, scale: Scale, *, field: str) -> None:
        """Raise `Invalid` for a scale that no target of this kind can follow."""
        if not scale.to_zero:
            return
        target = await TargetStore(self._session).get(target_id)
        if target is not None and target.kind is not TargetKind.KUBERNETES:
            raise Invalid(
                f"The target {target.name} is of the kind {target.kind}, which cannot scale an endpoint to zero: only "
                "Kubernetes with KEDA can. Ask for at least one replica, or for 0 at most as well to stop it.",
                field=field,
            )

    async def refresh(self, deployment_id: UUID) -> int:
        """Bring a deployment's endpoints and routes in line with its rows; returns the revision of the table.

        Takes the deployment's lock first: of two that refresh, the second one sees all that the first one did.
        Raises `NotFound`.
        """
        deployment = await DeploymentStore(self._session).lock(deployment_id)
        if deployment is None:
            raise NotFound(f"There is no deployment {deployment_id}.")
        if await self._store.settle(deployment_id):
            await notify(self._session, ENDPOINTS)
        states = await self._store.states(deployment_id)
        for state in states:
            judgement = judge(state.facts)
            if (judgement.status, judgement.detail) != (state.status, state.status_detail):
                await self._store.judged(state.id, judgement)
        return await RoutingService(self._session).publish(deployment, states)
