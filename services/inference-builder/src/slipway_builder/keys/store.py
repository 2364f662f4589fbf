"""SQL of keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.keys.tables import KeyRow
from slipway_schemas.inference.routing import KeyUse
from slipway_schemas.inference.versions import KeyDraft


@dataclass(frozen=True, slots=True)
class Key:
    """A key in use."""

    id: UUID
    deployment_id: UUID
    consumer: str
    key_hash: str


class KeyStore:
    """Reads and writes keys in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key_id: UUID) -> Key | None:
        """Return a key that is not revoked."""
        row = await self._session.scalar(select(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None)))
        return None if row is None else Key(row.id, row.deployment_id, row.consumer, row.key_hash)

    async def of_deployment(self, deployment_id: UUID) -> Sequence[UUID]:
        """Ids of the keys of a deployment that are not revoked."""
        statement = select(KeyRow.id).where(KeyRow.deployment_id == deployment_id, KeyRow.revoked_at.is_(None))
        return (await self._session.scalars(statement)).all()

    async def insert(self, draft: KeyDraft) -> None:
        """Add a key."""
        await self._session.execute(
            insert(KeyRow).values(
                **draft.model_dump(exclude={"endpoints"}),
                endpoints=list(draft.endpoints),
            )
        )

    async def revoke(self, key_id: UUID) -> None:
        """End a key."""
        await self._session.execute(update(KeyRow).where(KeyRow.id == key_id).values(revoked_at=text("now()")))

    async def expired_hidden(self) -> Sequence[UUID]:
        """Hidden keys that have ended without being revoked."""
        statement = select(KeyRow.id).where(KeyRow.hidden, KeyRow.revoked_at.is_(None), KeyRow.expires_at < func.now())
        return (await self._session.scalars(statement)).all()

    async def delete_hidden(self) -> None:
        """Delete hidden keys that are revoked."""
        await self._session.execute(delete(KeyRow).where(KeyRow.hidden, KeyRow.revoked_at.is_not(None)))

    async def used(self, uses: Sequence[KeyUse]) -> None:
        """Note when keys were used last."""
        for use in sorted(uses, key=lambda one: one.key_id):
            at = datetime.fromtimestamp(use.at, UTC)
            await self._session.execute(
                update(KeyRow)
                .where(KeyRow.id == use.key_id)
                .where(KeyRow.last_used_at.is_(None) | (KeyRow.last_used_at < at))
                .values(last_used_at=at)
            )
