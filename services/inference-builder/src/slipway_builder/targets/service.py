"""Use cases of targets."""

import hashlib
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.targets.sealing import seal
from slipway_builder.targets.store import Target, TargetStore
from slipway_db import unique_violation
from slipway_kit.auth import new_secret_token
from slipway_kit.errors import Conflict, NotFound
from slipway_kit.ids import new_id
from slipway_kit.vault import Vault
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetCreated, TargetDraft


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
                    message = "There is a default target already. Add this one without making it the default."
                    raise Conflict(message, field="is_default", code="unique") from error
            raise
        return TargetCreated(id=target_id, router_token=token)

    async def get(self, target_id: UUID) -> Target:
        """Return a target. Raises `NotFound`."""
        target = await self._store.get(target_id)
        if target is None:
            raise NotFound(f"There is no deployment target {target_id}.")
        return target

    async def ensure(self, name: str, kind: TargetKind, public_url: str, router_token: str) -> UUID:
        """The target of an installation on one machine: made at the first start, kept in line at later ones.

        Its kind stays what it was: what its endpoints are made of cannot be served by another kind.
        """
        for target in await self._store.all():
            if target.name == name:
                await self._store.update(target.id, public_url=public_url, router_token_hash=_hash(router_token))
                return target.id
        target_id = new_id()
        await self._store.insert(
            target_id,
            name=name,
            kind=kind,
            public_url=public_url,
            is_default=True,
            settings=seal(self._vault, target_id, {}),
            router_token_hash=_hash(router_token),
        )
        return target_id


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
