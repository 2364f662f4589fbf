"""Use cases of consumers' keys."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from slipway_db import Database
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.builder import CREATE_SECONDS, INTERNAL, refused_fields
from slipway_gateway.inference.deployments import DeploymentService
from slipway_gateway.inference.domain.records import Deployment, Key
from slipway_gateway.inference.store.deployments import DeploymentStore
from slipway_gateway.inference.store.versions import VersionFilter, VersionStore
from slipway_gateway.paging import PageRequest
from slipway_kit.auth import new_secret_token
from slipway_kit.clock import Clock
from slipway_kit.errors import Invalid, NotFound
from slipway_kit.http import Neighbour
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import Created, KeyDraft

MAX_CONSUMER_LENGTH = 128


@dataclass(frozen=True)
class IssuedKey:
    """A new key with its value, which is shown once."""

    id: UUID
    value: str = field(repr=False)


class KeyService:
    """Keys. The gateway makes a key's value, shows it once, and hands on its hash only."""

    def __init__(self, db: Database, builder: Neighbour, deployments: DeploymentService, clock: Clock) -> None:
        self._db = db
        self._builder = builder
        self._deployments = deployments
        self._clock = clock

    async def of_deployment(self, user: User, deployment_id: UUID) -> Sequence[Key]:
        """The keys of a deployment, newest first. Raises `NotFound`."""
        found = (await self._deployments.get(user, deployment_id)).deployment
        async with self._db.read() as session:
            return await DeploymentStore(session).keys(found.id)

    async def issue(
        self,
        user: User,
        deployment_id: UUID,
        *,
        consumer: str,
        endpoints: Sequence[str] = (),
        expires_at: datetime | None = None,
        requests_per_minute: int | None = None,
        hidden: bool = False,
    ) -> IssuedKey:
        """A new key; a `hidden` one is in no list and is ended by `end_hidden`. Raises `NotFound`, `Invalid`."""
        found = (await self._deployments.get(user, deployment_id)).deployment
        consumer = consumer.strip()
        if not 1 <= len(consumer) <= MAX_CONSUMER_LENGTH or not consumer.isprintable():
            raise Invalid(f"Name the consumer with 1 to {MAX_CONSUMER_LENGTH} letters.", field="consumer")
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= self._clock.now()):
            raise Invalid(
                "This time is past, or has no time zone. Use one such as 2030-01-31T00:00:00Z.", field="expires_at"
            )
        await self._check_endpoints(user, found, endpoints)
        value = new_secret_token()
        draft = KeyDraft(
            id=new_id(),
            deployment_id=found.id,
            consumer=consumer,
            creator_id=user.id,
            key_hash=hashlib.sha256(value.encode()).hexdigest(),
            endpoints=tuple(dict.fromkeys(endpoints)),
            expires_at=expires_at,
            requests_per_minute=requests_per_minute,
            hidden=hidden,
        )
        with refused_fields():
            made = await self._builder.post(
                f"{INTERNAL}/keys", body=draft, result=Created, actor=user.id, timeout=CREATE_SECONDS
            )
        return IssuedKey(made.id, value)

    async def revoke(self, user: User, deployment_id: UUID, key_id: UUID) -> None:
        """End a key. Raises `NotFound`."""
        if key_id not in {one.id for one in await self.of_deployment(user, deployment_id)}:
            raise NotFound("This key does not exist, or you may not see it.")
        await self._builder.delete(f"{INTERNAL}/keys/{key_id}", actor=user.id)

    async def end_hidden(self, user: User, key: IssuedKey) -> None:
        """End a key that only this process knows."""
        await self._builder.delete(f"{INTERNAL}/keys/{key.id}", actor=user.id)

    async def _check_endpoints(self, user: User, deployment: Deployment, names: Sequence[str]) -> None:
        if not names:
            return
        async with self._db.read() as session:
            page = await VersionStore(session).page(
                user.id, VersionFilter(deployment_id=deployment.id), PageRequest(count=False)
            )
        known = {endpoint.name for version in page.items for endpoint in version.endpoints}
        unknown = sorted(set(names) - known)
        if unknown:
            raise Invalid(
                f"No version of {deployment.name} has an endpoint {', '.join(unknown):.100}; "
                f"there are: {', '.join(sorted(known)) or 'none'}.",
                field="endpoints",
                code="does_not_exist",
            )
