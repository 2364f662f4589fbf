"""SQL of clean-ups."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.images.store import ImageStore
from slipway_kit.ids import new_id

_REFERENCED = text("""
SELECT i.reference, i.digest, i.base_digest FROM images i JOIN versions v ON v.id = i.version_id
JOIN deployments d ON d.id = v.deployment_id
WHERE i.digest <> '' AND ((v.deleted_at IS NULL AND d.deleted_at IS NULL) OR EXISTS (
    SELECT FROM endpoints e WHERE e.image_id = i.id AND (e.serving OR e.generation <> e.applied_generation)))
""")
_TAKE = text("""
INSERT INTO clean_ups (id, lease_token, leased_until, next_at)
SELECT unnest(CAST(:ids AS uuid[])), :token, now() + make_interval(secs => :seconds), now()
ON CONFLICT (id) DO UPDATE SET lease_token = excluded.lease_token, leased_until = excluded.leased_until
WHERE clean_ups.leased_until IS NULL OR clean_ups.leased_until < now()
RETURNING id
""")


@dataclass(frozen=True, slots=True)
class Referenced:
    """What endpoints may still need."""

    references: frozenset[str]
    digests: frozenset[str]
    """Of images and of their bases."""


class UpkeepStore:
    """Reads and writes in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def due(self) -> list[UUID]:
        """Targets that are to be cleaned up now."""
        rows = await self._session.scalars(
            text("""
            SELECT t.id FROM targets t LEFT JOIN clean_ups c ON c.id = t.id
            WHERE t.deleted_at IS NULL AND (c.id IS NULL OR c.next_at < now()) ORDER BY t.id
            """)
        )
        return list(rows.all())

    async def begin(self, target_ids: Collection[UUID], seconds: float) -> UUID | None:
        """Take the targets while nothing is built for them; None when something is, or another cleans up."""
        await ImageStore(self._session).lock_leases()
        building = await self._session.scalar(
            text("SELECT count(*) FROM images WHERE target_id = ANY(:ids) AND leased_until > now()"),
            {"ids": list(target_ids)},
        )
        if building:
            return None
        token = new_id()
        values = {"ids": list(target_ids), "token": token, "seconds": seconds}
        taken = (await self._session.execute(_TAKE, values)).all()
        if len(taken) == len(target_ids):
            return token
        await self.end(token)
        return None

    async def renew(self, token: UUID, seconds: float) -> bool:
        """Keep what was taken; False when it is another's."""
        kept = await self._session.execute(
            text("""
            UPDATE clean_ups SET leased_until = now() + make_interval(secs => :seconds)
            WHERE lease_token = :token RETURNING id
            """),
            {"seconds": seconds, "token": token},
        )
        return kept.first() is not None

    async def end(self, token: UUID) -> None:
        """Let images be built again."""
        await self._session.execute(
            text("UPDATE clean_ups SET lease_token = NULL, leased_until = NULL WHERE lease_token = :token"),
            {"token": token},
        )

    async def next_in(self, target_id: UUID, seconds: float) -> None:
        """Say when it is due again."""
        await self._session.execute(
            text("""
            INSERT INTO clean_ups (id, next_at) VALUES (:id, now() + make_interval(secs => :seconds))
            ON CONFLICT (id) DO UPDATE SET next_at = excluded.next_at
            """),
            {"id": target_id, "seconds": seconds},
        )

    async def referenced(self) -> Referenced:
        """What no clean-up may touch: of all targets, because several may share a registry."""
        rows = (await self._session.execute(_REFERENCED)).all()
        digests = {digest for row in rows for digest in (row.digest, row.base_digest) if digest}
        return Referenced(frozenset(row.reference for row in rows), frozenset(digests))

    async def deployments(self, target_ids: Collection[UUID]) -> list[UUID]:
        """All deployments that a target has or had: each has a repository of its own."""
        rows = await self._session.scalars(
            text("SELECT id FROM deployments WHERE target_id = ANY(:ids) ORDER BY id").bindparams(ids=list(target_ids))
        )
        return list(rows.all())
