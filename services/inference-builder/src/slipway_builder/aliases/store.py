"""SQL of aliases and of their history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.aliases.tables import AliasMoveRow, AliasRow
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import AliasMove


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points now."""

    id: UUID
    deployment_id: UUID
    name: str
    version_id: UUID
    canary_version_id: UUID | None
    canary_percent: int
    sticky: bool
    max_error_percent: float | None
    max_latency_ms: float | None

    def stands_as(self, wanted: AliasMove) -> bool:
        """Whether a move would change nothing."""
        fields = wanted.model_dump(exclude={"reason"})
        return all(getattr(self, name) == value for name, value in fields.items())


@dataclass(frozen=True, slots=True)
class Bound:
    """An alias whose newest version has been worse than its bounds allow, in the minutes since its last move."""

    deployment_id: UUID
    name: str
    version_id: UUID
    requests: int
    error_percent: float
    latency_ms: float
    max_error_percent: float | None
    max_latency_ms: float | None

    @property
    def place(self) -> tuple[UUID, str, UUID]:
        """Which alias goes to which version."""
        return self.deployment_id, self.name, self.version_id


_CROSSED = text("""
WITH watched AS (
    SELECT a.*, coalesce(a.canary_version_id, a.version_id) AS new_version, d.path || '/' || d.name AS base,
        (SELECT max(m.at) FROM alias_moves m WHERE m.alias_id = a.id) AS moved_at
    FROM aliases a JOIN deployments d ON d.id = a.deployment_id
    WHERE a.max_error_percent IS NOT NULL OR a.max_latency_ms IS NOT NULL
), counted AS (
    SELECT w.id, sum(c.requests) AS requests, sum(c.server_errors) AS errors, sum(c.latency_ms_sum) AS latency
    FROM watched w JOIN endpoints e ON e.version_id = w.new_version
    JOIN endpoint_minutes c ON c.endpoint_id = e.id AND c.minute >= w.moved_at - interval '1 minute'
        AND c.minute > now() - interval '10 minutes' AND c.prefix = w.base || '/' || w.name || '/' || e.name
    GROUP BY w.id
)
SELECT w.deployment_id, w.name, w.new_version, c.requests, 100.0 * c.errors / c.requests AS error_percent,
    c.latency / c.requests AS latency_ms, w.max_error_percent, w.max_latency_ms
FROM watched w JOIN counted c ON c.id = w.id
WHERE c.requests >= :least AND (100.0 * c.errors / c.requests > w.max_error_percent
    OR c.latency / c.requests > w.max_latency_ms)
""")


_GET = text("""
SELECT id, deployment_id, name, version_id, canary_version_id, canary_percent, sticky, max_error_percent, max_latency_ms
FROM aliases WHERE deployment_id = :deployment AND name = :name
""")
_PUT = text("""
INSERT INTO aliases (id, deployment_id, name, version_id, canary_version_id, canary_percent, sticky, max_error_percent,
    max_latency_ms, modified_at)
VALUES (:id, :deployment_id, :name, :version_id, :canary_version_id, :canary_percent, :sticky, :max_error_percent,
    :max_latency_ms, now())
ON CONFLICT (deployment_id, name) DO UPDATE SET version_id = excluded.version_id,
    canary_version_id = excluded.canary_version_id, canary_percent = excluded.canary_percent, sticky = excluded.sticky,
    max_error_percent = excluded.max_error_percent, max_latency_ms = excluded.max_latency_ms, modified_at = now()
RETURNING id
""")
_MOVED = text("""
INSERT INTO alias_moves (id, alias_id, deployment_id, alias_name, version_id, previous_version_id, canary_version_id,
    canary_percent, actor_id, reason, automatic, revision, at)
VALUES (:id, :alias_id, :deployment_id, :alias_name, :version_id, :previous_version_id, :canary_version_id,
    :canary_percent, :actor_id, :reason, :automatic, :revision, clock_timestamp())
""")


class AliasStore:
    """Reads and writes aliases in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, deployment_id: UUID, name: str) -> Alias | None:
        """Return an alias."""
        row = (await self._session.execute(_GET, {"deployment": deployment_id, "name": name})).one_or_none()
        return None if row is None else Alias(*row)

    async def put(self, deployment_id: UUID, name: str, values: Mapping[str, Any]) -> UUID:
        """Make or change an alias; returns its id."""
        row = {**values, "id": new_id(), "deployment_id": deployment_id, "name": name}
        made: UUID = (await self._session.execute(_PUT, row)).scalar_one()
        return made

    async def delete(self, alias_id: UUID) -> None:
        """Delete an alias; its history stays."""
        await self._session.execute(delete(AliasRow).where(AliasRow.id == alias_id))

    async def add_move(self, values: Mapping[str, Any]) -> None:
        """Add to the history."""
        await self._session.execute(_MOVED, {"id": new_id(), "canary_version_id": None, **values})

    async def previous(self, alias: Alias) -> UUID | None:
        """The version that the alias pointed at before its last move."""
        previous: UUID | None = await self._session.scalar(
            select(AliasMoveRow.previous_version_id)
            .where(AliasMoveRow.alias_id == alias.id, AliasMoveRow.version_id == alias.version_id)
            .where(AliasMoveRow.previous_version_id.is_distinct_from(alias.version_id))
            .order_by(AliasMoveRow.at.desc())
            .limit(1)
        )
        return previous

    async def crossed_bounds(self, least_requests: int) -> Sequence[Bound]:
        """Aliases that have to go back by themselves."""
        return [Bound(*row) for row in await self._session.execute(_CROSSED, {"least": least_requests})]
