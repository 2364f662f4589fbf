"""Use cases of keys."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.service import DeploymentService
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.keys.store import KeyStore
from slipway_builder.routing.service import RoutingService
from slipway_builder.routing.store import RoutingStore
from slipway_kit.errors import NotFound
from slipway_schemas.inference.routing import RouteKey
from slipway_schemas.inference.versions import KeyDraft


class KeyService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = KeyStore(session)

    async def create(self, draft: KeyDraft) -> tuple[UUID, int]:
        """Keep a key and hand it to the routers; the same id again changes nothing. Raises `NotFound`.

        Returns the target and the revision of its table that carries the key.
        """
        deployment = await DeploymentService(self._session).get(draft.deployment_id)
        revision = await RoutingStore(self._session).revision(deployment.target_id) or 0
        if await self._store.get(draft.id) is None:
            await self._store.insert(draft)
            key = RouteKey(
                key_id=draft.id,
                key_hash=draft.key_hash,
                deployment_id=draft.deployment_id,
                consumer=draft.consumer,
                endpoints=draft.endpoints,
                expires_at=int(draft.expires_at.timestamp()) if draft.expires_at else None,
                requests_per_minute=draft.requests_per_minute,
            )
            revision = await RoutingService(self._session).publish_key(deployment.target_id, key)
        return deployment.target_id, revision

    async def revoke(self, key_id: UUID) -> tuple[UUID, int]:
        """End a key; returns the target and the revision that carries the end. Raises `NotFound`."""
        key = await self._store.get(key_id)
        deployment = await DeploymentStore(self._session).get(key.deployment_id, deleted=True) if key else None
        if key is None or deployment is None:
            raise NotFound(f"There is no key {key_id} in use.")
        await self._store.revoke(key_id)
        gone = RouteKey(
            key_id=key.id,
            key_hash=key.key_hash,
            deployment_id=key.deployment_id,
            consumer=key.consumer,
            removed=True,
        )
        return deployment.target_id, await RoutingService(self._session).publish_key(deployment.target_id, gone)
