"""Use cases of aliases: move, go back, delete."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.aliases.store import AliasStore
from slipway_builder.deployments.store import DeploymentStore
from slipway_builder.endpoints.service import EndpointService
from slipway_builder.endpoints.store import EndpointState, EndpointStore
from slipway_builder.routing.service import RoutingService
from slipway_builder.versions.store import VersionStore
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_schemas.inference.statuses import EndpointStatus
from slipway_schemas.inference.versions import AliasMove, AliasMoved

NAME_OF_ALIAS = "alias"
NOT_READY = "not_ready"


@dataclass(frozen=True, slots=True)
class Mover:
    """Who moves an alias: a user, or the platform by itself."""

    actor_id: int | None = None
    automatic: bool = False


class AliasService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = AliasStore(session)
        self._deployments = DeploymentStore(session)
        self._routing = RoutingService(session)

    async def move(self, deployment_id: UUID, name: str, wanted: AliasMove, mover: Mover) -> tuple[AliasMoved, UUID]:
        """Point an alias at a version; returns what happened and the target whose routers have to follow.

        Raises `NotFound`, `Invalid`, `Conflict`: `not_ready` when a version does not serve yet, `unique` when a
        version has the name.
        """
        deployment = await self._deployments.lock(deployment_id)
        if deployment is None or deployment.deleted:
            raise NotFound(f"There is no deployment {deployment_id}.")
        states = await self._check(deployment_id, wanted)
        known = await self._store.get(deployment_id, name)
        if known is not None and known.stands_as(wanted):
            # Said again, as by a caller whose first answer was lost: it is one move.
            revision = await self._routing.publish(deployment, states)
            return AliasMoved(
                id=known.id,
                name=name,
                version_id=known.version_id,
                previous_version_id=await self._store.previous(known),
                revision=revision,
            ), deployment.target_id
        if known is None:
            try:
                async with self._session.begin_nested():
                    await self._deployments.take_name(deployment_id, name, NAME_OF_ALIAS)
            except IntegrityError as error:
                raise Conflict(
                    f"A version of this deployment is named {name!r}. Choose another name for the alias.",
                    field="name",
                    code="unique",
                ) from error
        alias_id = await self._store.put(
            deployment_id,
            name,
            wanted.model_dump(exclude={"reason"}),
        )
        revision = await self._routing.publish(deployment, states)
        previous = known.version_id if known else None
        await self._store.add_move(
            {
                "alias_id": alias_id,
                "deployment_id": deployment_id,
                "alias_name": name,
                "version_id": wanted.version_id,
                "previous_version_id": previous,
                "canary_version_id": wanted.canary_version_id,
                "canary_percent": wanted.canary_percent,
                "actor_id": mover.actor_id,
                "reason": wanted.reason,
                "automatic": mover.automatic,
                "revision": revision,
            }
        )
        moved = AliasMoved(
            id=alias_id, name=name, version_id=wanted.version_id, previous_version_id=previous, revision=revision
        )
        return moved, deployment.target_id

    async def rollback(self, deployment_id: UUID, name: str, mover: Mover, reason: str = "") -> tuple[AliasMoved, UUID]:
        """Point an alias where it pointed before its last move; a canary only ends. Raises as `move` does."""
        alias = await self._store.get(deployment_id, name)
        if alias is None:
            raise NotFound(f"The deployment has no alias {name!r}.")
        back = alias.version_id if alias.canary_version_id is not None else await self._store.previous(alias)
        if back is None:
            raise Conflict(
                f"The alias {name!r} has always pointed at this version: there is nothing to go back to.",
                code="no_previous",
            )
        move = AliasMove(version_id=back, sticky=alias.sticky, reason=reason or "Rolled back")
        return await self.move(deployment_id, name, move, mover)

    async def delete(self, deployment_id: UUID, name: str, mover: Mover) -> None:
        """Delete an alias: its URLs answer 404. Raises `NotFound`."""
        await self._deployments.lock(deployment_id)
        alias = await self._store.get(deployment_id, name)
        if alias is None:
            raise NotFound(f"The deployment has no alias {name!r}.")
        await self._store.delete(alias.id)
        await self._deployments.free_name(deployment_id, name)
        revision = await EndpointService(self._session).refresh(deployment_id)
        await self._store.add_move(
            {
                "alias_id": alias.id,
                "deployment_id": deployment_id,
                "alias_name": name,
                "version_id": None,
                "previous_version_id": alias.version_id,
                "canary_percent": 0,
                "actor_id": mover.actor_id,
                "reason": "Deleted",
                "automatic": mover.automatic,
                "revision": revision,
            }
        )

    async def _check(self, deployment_id: UUID, wanted: AliasMove) -> list[EndpointState]:
        """Raise when the alias cannot point there; returns the deployment's endpoints."""
        canary = wanted.canary_version_id
        if (canary is None) != (wanted.canary_percent == 0):
            raise Invalid(
                "A canary needs both a version and a share between 1 and 100 %.", field="canary_percent", code="invalid"
            )
        states = await EndpointStore(self._session).states(deployment_id)
        for field, version_id in (("version_id", wanted.version_id), ("canary_version_id", canary)):
            if version_id is None or _serves(states, version_id):
                continue
            version = await VersionStore(self._session).get(version_id)
            if version is None or version.deployment_id != deployment_id:
                raise Invalid(f"The deployment has no version {version_id}.", field=field, code="does_not_exist")
            waiting = [
                f"{state.name}: {state.status_detail}"
                for state in states
                if state.version_id == version_id
                and state.status is not EndpointStatus.AVAILABLE
                and not (state.status is EndpointStatus.DISABLED and version.enabled and not state.facts.enabled)
            ]
            serving = any(one.version_id == version_id and one.facts.serves for one in states)
            if waiting or not serving:
                why = "; ".join(waiting) or "none of its endpoints serves"
                raise Conflict(
                    f"Version {version.name} is not ready, so the alias stays where it is. {why}", code=NOT_READY
                )
        return states


def _serves(states: Sequence[EndpointState], version_id: UUID) -> bool:
    """Whether all endpoints of a version do, as is the case with nearly every move."""
    own = [one for one in states if one.version_id == version_id]
    return bool(own) and all(
        one.facts.enabled and one.facts.ready and one.status is EndpointStatus.AVAILABLE for one in own
    )
