"""SQL of environments and group tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.functions import now

from slipway_kit.ids import new_id
from slipway_scheduler.dispatch.domain import Room
from slipway_scheduler.environments.tables import EnvironmentRow, GroupTokenRow
from slipway_schemas.environments import EnvironmentCreate, EnvironmentSettings

_SIZES = text("""
SELECT DISTINCT w.cpus, w.memory_bytes, w.gpus FROM workers w JOIN worker_states s ON s.worker_id = w.id
WHERE w.environment_id = :environment AND s.last_seen_at > now() - interval '30 days'
""")


@dataclass(frozen=True)
class Environment:
    """A worker group with its rules."""

    id: UUID
    slug: str
    name: str
    enabled: bool
    per_user_queue_quota: int
    settings: EnvironmentSettings


class EnvironmentStore:
    """Reads and writes environments in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, environment_id: UUID) -> Environment | None:
        """Return an environment that is not deleted."""
        statement = select(EnvironmentRow).where(EnvironmentRow.id == environment_id)
        row = await self._session.scalar(statement.where(EnvironmentRow.deleted_at.is_(None)))
        return None if row is None else _environment(row)

    async def all(self) -> Sequence[Environment]:
        """Return the environments that are not deleted, by slug."""
        statement = select(EnvironmentRow).where(EnvironmentRow.deleted_at.is_(None)).order_by(EnvironmentRow.slug)
        return [_environment(row) for row in (await self._session.scalars(statement)).all()]

    async def by_slug(self, slug: str) -> Environment | None:
        """Return the environment of this slug."""
        return next((one for one in await self.all() if one.slug == slug), None)

    async def worker_sizes(self, environment_id: UUID) -> list[Room]:
        """Sizes of the workers that an environment has, or had within 30 days."""
        rows = (await self._session.execute(_SIZES, {"environment": environment_id})).mappings()
        return [Room(1, row["cpus"], row["memory_bytes"], row["gpus"]) for row in rows]

    async def insert(self, wanted: EnvironmentCreate) -> Environment:
        """Add an environment. Raises IntegrityError when the slug is taken."""
        row = EnvironmentRow(
            **wanted.model_dump(exclude={"settings"}), id=new_id(), settings=wanted.settings.model_dump(mode="json")
        )
        self._session.add(row)
        await self._session.flush()
        return _environment(row)

    async def update(self, environment_id: UUID, values: dict[str, Any]) -> None:
        """Set columns of an environment."""
        await self._session.execute(update(EnvironmentRow).where(EnvironmentRow.id == environment_id).values(**values))

    async def delete(self, environment_id: UUID) -> None:
        """Mark an environment as deleted and end its group tokens."""
        await self.update(environment_id, {"deleted_at": now(), "enabled": False})
        tokens = update(GroupTokenRow).where(GroupTokenRow.environment_id == environment_id)
        await self._session.execute(tokens.where(GroupTokenRow.revoked_at.is_(None)).values(revoked_at=now()))

    async def add_token(self, environment_id: UUID, token_hash: str) -> UUID:
        """Keep the hash of a new group token; returns its id."""
        token_id = new_id()
        values = {"id": token_id, "environment_id": environment_id, "token_hash": token_hash}
        await self._session.execute(insert(GroupTokenRow).values(**values))
        return token_id

    async def revoke_token(self, environment_id: UUID, token_id: UUID) -> bool:
        """End a group token; False when the environment has no such token in use."""
        statement = (
            update(GroupTokenRow)
            .where(GroupTokenRow.id == token_id, GroupTokenRow.environment_id == environment_id)
            .where(GroupTokenRow.revoked_at.is_(None))
            .values(revoked_at=now())
            .returning(GroupTokenRow.id)
        )
        return await self._session.scalar(statement) is not None

    async def of_token(self, token_hash: str) -> Environment | None:
        """Return the environment that a group token opens."""
        statement = (
            select(EnvironmentRow)
            .join(GroupTokenRow, GroupTokenRow.environment_id == EnvironmentRow.id)
            .where(GroupTokenRow.token_hash == token_hash, GroupTokenRow.revoked_at.is_(None))
            .where(EnvironmentRow.deleted_at.is_(None))
        )
        row = await self._session.scalar(statement)
        return None if row is None else _environment(row)


def _environment(row: EnvironmentRow) -> Environment:
    return Environment(
        id=row.id,
        slug=row.slug,
        name=row.name,
        enabled=row.enabled,
        per_user_queue_quota=row.per_user_queue_quota,
        settings=EnvironmentSettings.model_validate(row.settings),
    )
