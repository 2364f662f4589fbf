"""SQL of environments: the scheduler's published view, limited to what the caller may use."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.environments.domain import Environment

_VISIBLE = (
    "SELECT e.id, e.slug, e.name, e.description, e.owner_id, a.slug AS owner_slug, e.enabled, e.provider, e.gpu_spec,"
    " e.per_hour_price_usd, e.per_user_queue_quota, e.unfinished_job_count, e.settings"
    " FROM scheduler_pub.environment_v1 e LEFT JOIN accounts a ON a.id = e.owner_id"
    " WHERE e.deleted_at IS NULL AND (e.owner_id IS NULL OR e.owner_id = :user"
    " OR e.owner_id IN (SELECT organization_id FROM memberships WHERE user_id = :user))"
)
_ALL = text(_VISIBLE + " ORDER BY e.name, e.id")
_BY_ID = text(_VISIBLE + " AND e.id = :id")
_BY_SLUG = text(_VISIBLE + " AND e.slug = lower(:slug)")


class EnvironmentStore:
    """Reads environments in one unit of work. There are tens of them, so lists are read whole."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def visible(self, user_id: int) -> Sequence[Environment]:
        """All environments that a user may use, by name."""
        rows = await self._session.execute(_ALL, {"user": user_id})
        return [_environment(row) for row in rows]

    async def by_id(self, user_id: int, environment_id: UUID) -> Environment | None:
        """One environment by id."""
        row = (await self._session.execute(_BY_ID, {"user": user_id, "id": environment_id})).one_or_none()
        return None if row is None else _environment(row)

    async def by_slug(self, user_id: int, slug: str) -> Environment | None:
        """One environment by slug."""
        row = (await self._session.execute(_BY_SLUG, {"user": user_id, "slug": slug})).one_or_none()
        return None if row is None else _environment(row)


def _environment(row: Row[Any]) -> Environment:
    return Environment(**row._mapping)
