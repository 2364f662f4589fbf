"""SQL of routing tables and routers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.routing.tables import RouteKeyRow, RouteRow
from slipway_builder.targets.tables import TargetRow
from slipway_schemas.inference.routing import Route, RouteKey, TableChanges

_NEXT = text("UPDATE targets SET routing_revision = routing_revision + 1 WHERE id = :id RETURNING routing_revision")
_SEEN = text("""
INSERT INTO routers (target_id, router_id, applied_revision, seen_at) VALUES (:target, :router, :revision, now())
ON CONFLICT (target_id, router_id) DO UPDATE SET applied_revision = excluded.applied_revision, seen_at = now()
WHERE routers.applied_revision <> excluded.applied_revision OR routers.seen_at < now() - interval '2 seconds'
""")
_ALIASES = text("""
SELECT name, version_id, canary_version_id, canary_percent, sticky FROM aliases WHERE deployment_id = :deployment
""")
_VERSIONS = text("SELECT id, name FROM versions WHERE deployment_id = :deployment AND deleted_at IS NULL")
_BEHIND = text("""
SELECT router_id, applied_revision < :revision AS behind FROM routers
WHERE target_id = :target AND seen_at > now() - make_interval(secs => :seconds)
""")


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version and its name."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """Where an alias points."""

    name: str
    version_id: UUID
    canary_version_id: UUID | None
    canary_percent: int
    sticky: bool


class RoutingStore:
    """Reads and writes the routing table in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def versions(self, deployment_id: UUID) -> list[NamedVersion]:
        """The versions that have URLs."""
        rows = await self._session.execute(_VERSIONS, {"deployment": deployment_id})
        return [NamedVersion(row.id, row.name) for row in rows]

    async def aliases(self, deployment_id: UUID) -> list[AliasTarget]:
        """The aliases of a deployment."""
        rows = await self._session.execute(_ALIASES, {"deployment": deployment_id})
        return [AliasTarget(*row) for row in rows]

    async def routes(self, deployment_id: UUID) -> Mapping[str, Mapping[str, Any]]:
        """The published routes of a deployment that are not removed, by prefix."""
        statement = select(RouteRow.prefix, RouteRow.document).where(
            RouteRow.deployment_id == deployment_id, RouteRow.removed.is_(False)
        )
        return {row.prefix: row.document for row in (await self._session.execute(statement)).all()}

    async def revision(self, target_id: UUID) -> int | None:
        """The newest revision of a target's table."""
        revision: int | None = await self._session.scalar(
            select(TargetRow.routing_revision).where(TargetRow.id == target_id)
        )
        return revision

    async def next_revision(self, target_id: UUID) -> int:
        """Take the next revision; the row lock holds until the transaction ends, so revisions commit in order."""
        return int((await self._session.execute(_NEXT, {"id": target_id})).scalar_one())

    async def put_routes(self, target_id: UUID, revision: int, routes: Sequence[Route]) -> None:
        """Write routes as of a revision."""
        await self._session.execute(
            _replacing(RouteRow, ["target_id", "prefix"]),
            [
                {
                    "target_id": target_id,
                    "prefix": one.prefix,
                    "deployment_id": one.deployment_id,
                    "document": one.model_dump(mode="json"),
                    "revision": revision,
                    "removed": one.removed,
                }
                for one in routes
            ],
        )

    async def put_key(self, target_id: UUID, revision: int, key: RouteKey) -> None:
        """Write a key as of a revision."""
        await self._session.execute(
            _replacing(RouteKeyRow, ["key_id"]),
            [
                {
                    "key_id": key.key_id,
                    "target_id": target_id,
                    "document": key.model_dump(mode="json"),
                    "revision": revision,
                    "removed": key.removed,
                }
            ],
        )

    async def changes(self, target_id: UUID, applied: int, revision: int) -> TableChanges:
        """What a router at `applied` has to do to be at `revision`; all of it, when it has nothing of ours."""
        complete = applied == 0 or applied > revision
        tables = (RouteRow, RouteKeyRow)
        found: list[list[Any]] = []
        for table in tables:
            statement = select(table.document).where(table.target_id == target_id, table.revision <= revision)
            if complete:
                statement = statement.where(table.removed.is_(False))
            else:
                statement = statement.where(table.revision > applied)
            found.append(list((await self._session.scalars(statement.order_by(table.revision))).all()))
        return TableChanges(
            revision=revision,
            complete=complete,
            routes=tuple(Route.model_validate(one) for one in found[0]),
            keys=tuple(RouteKey.model_validate(one) for one in found[1]),
        )

    async def seen(self, target_id: UUID, router_id: str, revision: int) -> bool:
        """Note what a router has; tells whether that was news."""
        values = {"target": target_id, "router": router_id, "revision": revision}
        result = await self._session.execute(_SEEN, values)
        return bool(getattr(result, "rowcount", 0))

    async def confirmations(self, target_id: UUID, revision: int, seconds: float) -> tuple[list[str], list[str]]:
        """Routers of the target that were heard of lately: those at `revision` or newer, and the others."""
        rows = (
            await self._session.execute(_BEHIND, {"target": target_id, "revision": revision, "seconds": seconds})
        ).all()
        return [row.router_id for row in rows if not row.behind], [row.router_id for row in rows if row.behind]


def _replacing(row: type[RouteRow] | type[RouteKeyRow], keys: list[str]) -> Any:
    statement = insert(row)
    columns = {
        column.name: statement.excluded[column.name] for column in row.__table__.columns if column.name not in keys
    }
    return statement.on_conflict_do_update(index_elements=keys, set_=columns)
