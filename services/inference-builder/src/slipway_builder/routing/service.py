"""Use cases of routing: publish what a deployment's URLs lead to, and hand tables to routers."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.channels import ROUTES
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.store import EndpointState
from slipway_builder.routing.domain import Pointer, ServedEndpoint, routes_of
from slipway_builder.routing.store import RoutingStore
from slipway_db import notify
from slipway_kit.errors import NotFound
from slipway_schemas.inference.routing import Route, RouteKey


class RoutingService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = RoutingStore(session)

    async def publish(self, deployment_id: UUID, states: Sequence[EndpointState]) -> int:
        """Bring the routes of a deployment in line with its rows; returns the revision that carries them.

        The caller holds the deployment's lock.
        """
        deployment = await DeploymentStore(self._session).get(deployment_id, deleted=True)
        if deployment is None:
            raise NotFound(f"There is no deployment {deployment_id}.")
        wanted = {}
        if await DeploymentStore(self._session).get(deployment_id) is not None:
            versions = await self._store.versions(deployment_id)
            pointers = [
                *(Pointer(one.name, one.id) for one in versions),
                *(
                    Pointer(one.name, one.version_id, True, one.canary_version_id, one.canary_percent, one.sticky)
                    for one in await self._store.aliases(deployment_id)
                ),
            ]
            routes = routes_of(
                f"{deployment.path}/{deployment.name}",
                deployment_id,
                public=deployment.public,
                versions=[(one.id, one.name) for one in versions],
                pointers=pointers,
                endpoints=[
                    ServedEndpoint(
                        id=one.id,
                        version_id=one.version_id,
                        name=one.name,
                        host=one.address_host,
                        port=one.address_port,
                        serves=one.facts.enabled and one.facts.serves,
                        may_sleep=one.facts.may_sleep,
                        detail=one.status_detail,
                    )
                    for one in states
                ],
            )
            wanted = {route.prefix: route for route in routes}
        known = {prefix: Route.model_validate(one) for prefix, one in (await self._store.routes(deployment_id)).items()}
        changed = [route for prefix, route in wanted.items() if known.get(prefix) != route]
        gone = [
            route.model_copy(update={"removed": True, "backends": ()})
            for prefix, route in known.items()
            if prefix not in wanted
        ]
        if not changed and not gone:
            return await self._store.revision(deployment.target_id) or 0
        revision = await self._store.next_revision(deployment.target_id)
        await self._store.put_routes(deployment.target_id, revision, [*changed, *gone])
        await notify(self._session, ROUTES)
        return revision

    async def publish_key(self, target_id: UUID, key: RouteKey) -> int:
        """Hand a key, or its end, to the routers; returns the revision."""
        revision = await self._store.next_revision(target_id)
        await self._store.put_key(target_id, revision, key)
        await notify(self._session, ROUTES)
        return revision
