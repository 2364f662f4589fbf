"""SQL of followed logs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.observe.replica_log import Mark
from slipway_builder.observe.tables import LogFollowerRow, LogMarkRow
from slipway_db import leases

_NEW_TARGETS = text("""
INSERT INTO log_followers (id) SELECT id FROM targets WHERE deleted_at IS NULL ON CONFLICT DO NOTHING
""")
_FOLLOWED = text("""
SELECT e.id, v.project_id, v.environment_variables
FROM endpoints e JOIN versions v ON v.id = e.version_id
WHERE e.target_id = :target AND (e.serving OR e.modified_at > now() - make_interval(secs => :seconds))
""")
_RENEW = text("""
UPDATE log_followers SET leased_until = now() + make_interval(secs => :seconds)
WHERE id = :id AND lease_token = :token RETURNING id
""")
_GIVE_BACK = text("""
UPDATE log_followers SET lease_token = NULL, leased_until = NULL WHERE id = :id AND lease_token = :token
""")
_FORGET = text("""
DELETE FROM log_marks m WHERE NOT EXISTS (SELECT FROM endpoints e WHERE e.id = m.endpoint_id
    AND (e.serving OR e.modified_at > now() - interval '1 day'))
""")


@dataclass(frozen=True, slots=True)
class FollowedEndpoint:
    """An endpoint whose replicas may write, with the variables that they got."""

    id: UUID
    project_id: UUID
    environment_variables: Mapping[str, Any]


class LogStore:
    """Reads and writes in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lease(self, seconds: float) -> tuple[UUID, list[UUID]]:
        """Take the targets that nobody follows; the token, and which these are."""
        await self._session.execute(_NEW_TARGETS)
        table: Any = LogFollowerRow.__table__
        lease = await leases.fetch(self._session, table, true(), order_by=[table.c.id], limit=100, seconds=seconds)
        return lease.token, [row["id"] for row in lease.rows]

    async def renew(self, target_id: UUID, token: UUID, seconds: float) -> bool:
        """Keep a lease; False when another builder has it."""
        values = {"id": target_id, "token": token, "seconds": seconds}
        return await self._session.scalar(_RENEW, values) is not None

    async def give_back(self, target_id: UUID, token: UUID) -> None:
        """End a lease."""
        await self._session.execute(_GIVE_BACK, {"id": target_id, "token": token})

    async def followed(self, target_id: UUID, linger_seconds: float) -> list[FollowedEndpoint]:
        """Endpoints that serve, and those that did so a moment ago: their replicas still have something to say."""
        rows = await self._session.execute(_FOLLOWED, {"target": target_id, "seconds": linger_seconds})
        return [FollowedEndpoint(*row) for row in rows]

    async def marks(self, endpoint_id: UUID) -> dict[tuple[str, bool], Mark]:
        """How far the log service has the log of each replica; and, with true, how far for good."""
        rows = await self._session.scalars(select(LogMarkRow).where(LogMarkRow.endpoint_id == endpoint_id))
        return {(row.replica, row.durable): Mark(row.day, row.lines, row.records, row.at, row.at_lines) for row in rows}

    async def mark(self, endpoint_id: UUID, marks: Mapping[tuple[str, bool], Mark]) -> None:
        """Move marks."""
        rows = [
            {"endpoint_id": endpoint_id, "replica": replica, "durable": durable, **asdict(mark)}
            for (replica, durable), mark in sorted(marks.items(), key=lambda one: one[0])
        ]
        statement = insert(LogMarkRow)
        moved = {name: statement.excluded[name] for name in ("day", "lines", "records", "at", "at_lines")}
        keys = ["endpoint_id", "replica", "durable"]
        await self._session.execute(statement.on_conflict_do_update(index_elements=keys, set_=moved), rows)

    async def forget(self) -> None:
        """Delete the marks of endpoints that do not serve any more."""
        await self._session.execute(_FORGET)
