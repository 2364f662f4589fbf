"""SQL of environments: the scheduler's published view, limited to what the caller may use."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Numeric, Row, Select, String, Uuid, column, func, or_, select, table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.environments.domain import Environment
from slipway_gateway.identity.access import owner_ids
from slipway_gateway.identity.tables import AccountRow
from slipway_gateway.paging import Page, PageRequest, fetch_page

_VIEW = table(
    "environment_v1",
    column("id", Uuid()),
    column("slug", String()),
    column("name", String()),
    column("description", String()),
    column("owner_id", Integer()),
    column("enabled"),
    column("provider", String()),
    column("gpu_spec", String()),
    column("per_hour_price_usd", Numeric()),
    column("per_user_queue_quota", Integer()),
    column("unfinished_job_count", Integer()),
    column("settings", JSONB()),
    column("deleted_at"),
    schema="scheduler_pub",
)
_C = _VIEW.c
_ORDERINGS: dict[str, ColumnElement[Any]] = {
    "name": func.lower(_C.name),
    "slug": _C.slug,
    "id": _C.id,
    "per_hour_price_usd": _C.per_hour_price_usd,
    "unfinished_job_count": _C.unfinished_job_count,
}


class EnvironmentStore:
    """Reads environments in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, user_id: int, request: PageRequest) -> Page[Environment]:
        """Environments that a user may use."""
        page = await fetch_page(
            self._session, _visible(user_id), request, orderings=_ORDERINGS, default="name", key=_C.id
        )
        return page.of([_environment(row) for row in page.items])

    async def by_id(self, user_id: int, environment_id: UUID) -> Environment | None:
        """One environment by id."""
        return await self._one(_visible(user_id).where(_C.id == environment_id))

    async def by_slug(self, user_id: int, slug: str) -> Environment | None:
        """One environment by slug."""
        return await self._one(_visible(user_id).where(_C.slug == slug.lower()))

    async def _one(self, statement: Select[Any]) -> Environment | None:
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else _environment(row)


def _visible(user_id: int) -> Select[Any]:
    """Environments of everybody, of the user and of the user's organizations, with the owner's slug."""
    return (
        select(*(one for one in _C if one.name != "deleted_at"), AccountRow.slug.label("owner_slug"))
        .select_from(_VIEW)
        .outerjoin(AccountRow, AccountRow.id == _C.owner_id)
        .where(_C.deleted_at.is_(None), or_(_C.owner_id.is_(None), _C.owner_id.in_(owner_ids(user_id))))
    )


def _environment(row: Row[Any]) -> Environment:
    return Environment(**{name: value for name, value in row._mapping.items() if not name.startswith("page_")})
