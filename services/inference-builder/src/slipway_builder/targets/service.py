"""Use cases of targets."""

import hashlib
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.targets.masking import masked, unmasked
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.sealing import seal, unseal
from slipway_builder.targets.store import Target, TargetStore
from slipway_db import unique_violation
from slipway_kit.auth import new_secret_token
from slipway_kit.errors import Conflict, NotFound
from slipway_kit.ids import new_id
from slipway_kit.vault import Vault
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetChange, TargetCreated, TargetDetail, TargetDraft

_NAMED: Final = 5
"""Deployments that a refusal names."""


class TargetService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, vault: Vault) -> None:
        self._session = session
        self._store = TargetStore(session)
        self._vault = vault

    async def create(self, draft: TargetDraft) -> TargetCreated:
        """Add a target. Raises `Conflict` when the name is taken or there is a default one already."""
        token, target_id = new_secret_token(), new_id()
        try:
            async with self._session.begin_nested():
                await self._store.insert(
                    target_id,
                    name=draft.name,
                    kind=draft.kind,
                    public_url=draft.public_url.rstrip("/"),
                    is_default=draft.is_default,
                    settings=seal(self._vault, target_id, draft.settings),
                    router_token_hash=_hash(token),
                )
        except IntegrityError as error:
            match unique_violation(error):
                case "uq_targets_name":
                    message = f"A target is named {draft.name!r} already. Choose another name."
                    raise Conflict(message, field="name", code="unique") from error
                case "uq_targets_is_default":
                    message = "There is a default target already. Add this one, then make it the default."
                    raise Conflict(message, field="is_default", code="unique") from error
            raise
        return TargetCreated(id=target_id, router_token=token)

    async def get(self, target_id: UUID) -> Target:
        """Return a target. Raises `NotFound`."""
        target = await self._store.get(target_id)
        if target is None:
            raise NotFound(f"There is no deployment target {target_id}.")
        return target

    async def detail(self, target_id: UUID) -> TargetDetail:
        """A target's settings without their secrets. Raises `NotFound`."""
        target = await self.get(target_id)
        return TargetDetail(id=target.id, settings=masked(unseal(self._vault, target.id, target.settings)))

    async def change(self, target_id: UUID, change: TargetChange, pool: TargetPool) -> None:
        """Change a target; all that it serves is applied again. Raises `NotFound`, `Invalid`, `Conflict`."""
        target = await self.get(target_id)
        values: dict[str, Any] = {}
        if change.public_url is not None:
            values["public_url"] = change.public_url.rstrip("/")
        if change.is_default is not None:
            await self._store.drop_default()
            values["is_default"] = change.is_default
        if change.settings is not None:
            kept = unseal(self._vault, target_id, target.settings)
            settings = unmasked(change.settings, kept)
            pool.make(target_id, target.kind, settings)  # refuses what cannot be used
            if _namespace(settings) != _namespace(kept) and await self._store.serves(target_id):
                raise Conflict(
                    f"{target.name} serves endpoints from the namespace {_namespace(kept)}, which would be left there. "
                    "Add another target for the new namespace, or delete its deployments first.",
                    field="settings",
                )
            values |= {"settings": seal(self._vault, target_id, settings), "next_look_at": text("now()")}
            await self._store.apply_again(target_id)
        if values:
            await self._store.update(target_id, **values)

    async def delete(self, target_id: UUID, *, force: bool) -> None:
        """Forget a target; its routers get no table any more. Raises `NotFound`, `Conflict` while it is in use."""
        target = await self.get(target_id)
        deployments = await self._store.deployments(target_id)
        if deployments:
            names = ", ".join(deployments[:_NAMED])
            raise Conflict(f"{target.name} has {len(deployments)} deployments ({names}). Delete them first.")
        if not force and await self._store.serves(target_id):
            raise Conflict(
                f"{target.name} still has endpoints to remove. Wait until it has, or force it if the target is gone "
                "for good: what is still there then stays there."
            )
        await self._store.update(target_id, deleted_at=text("now()"), is_default=False)

    async def renew_router_token(self, target_id: UUID) -> TargetCreated:
        """A new token for a target's routers. Raises `NotFound`."""
        await self.get(target_id)
        token = new_secret_token()
        await self._store.update(target_id, router_token_hash=_hash(token))
        return TargetCreated(id=target_id, router_token=token)

    async def ensure(self, name: str, kind: TargetKind, public_url: str, router_token: str) -> UUID:
        """The target of an installation on one machine: made at the first start, kept in line at later ones.

        Its kind stays what it was: what its endpoints are made of cannot be served by another kind.
        """
        targets = await self._store.all()
        for target in targets:
            if target.name == name:
                await self._store.update(target.id, public_url=public_url, router_token_hash=_hash(router_token))
                return target.id
        target_id = new_id()
        await self._store.insert(
            target_id,
            name=name,
            kind=kind,
            public_url=public_url,
            is_default=not any(one.is_default for one in targets),
            settings=seal(self._vault, target_id, {}),
            router_token_hash=_hash(router_token),
        )
        return target_id


def _namespace(settings: JsonObject) -> Any:
    """Where a cluster's endpoints are; other kinds have only one place."""
    cluster = settings.get("cluster")
    return cluster.get("namespace") if isinstance(cluster, dict) else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
