"""Use cases of routing: publish what a deployment's URLs lead to, and hand tables to routers."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.channels import ROUTES
from slipway_builder.deployments.store import Deployment
from slipway_builder.endpoints.store import EndpointState
from slipway_builder.routing.domain import ServedEndpoint, routes_of
from slipway_builder.routing.store import RoutingStore
from slipway_db import notify
from slipway_schemas.inference.routing import RouteKey


class RoutingService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = RoutingStore(session)

    async def publish(self, deployment: Deployment, states: Sequence[EndpointState]) -> int:
        """Bring the routes of a deployment in line with its rows; returns the revision that carries them.

        The caller holds the deployment's lock, and has read `deployment` and `states` under it.
        """
        wanted = {}
        if not deployment.deleted:
            routes = routes_of(
                f"{deployment.path}/{deployment.name}",
                deployment.id,
                public=deployment.public,
                pointers=await self._store.pointers(deployment.id),
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
        known = await self._store.routes(deployment.id)
        changed = [route for prefix, route in wanted.items() if known.get(prefix) != route]
        gone = [
            route.model_copy(update={"removed": True, "backends": ()})
            for prefix, route in known.items()
            if prefix not in wanted
        ]
        if not changed and not gone:
            return await self._store.revision(deployment.target_id) or 0
        return await self._store.put_routes(deployment.target_id, [*changed, *gone])

    async def publish_key(self, target_id: UUID, key: RouteKey) -> int:
        """Hand a key, or its end, to the routers; returns the revision."""
        revision = await self._store.next_revision(target_id)
        await self._store.put_key(target_id, revision, key)
        await notify(self._session, ROUTES)
        return revision
