"""SQL of routing tables and routers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.channels import ROUTERS, ROUTES
from slipway_builder.routing.domain import Pointer
from slipway_builder.routing.tables import RouteKeyRow
from slipway_builder.targets.tables import TargetRow
from slipway_schemas.inference.routing import Route, RouteKey

_NEXT = text("UPDATE targets SET routing_revision = routing_revision + 1 WHERE id = :id RETURNING routing_revision")
_PUT_ROUTES = text(f"""
WITH next AS (
    {_NEXT.text}
), put AS (
    INSERT INTO routes (target_id, prefix, deployment_id, document, revision, removed)
    SELECT CAST(:id AS uuid), one ->> 'prefix', CAST(one ->> 'deployment_id' AS uuid), one, routing_revision,
        CAST(one ->> 'removed' AS boolean)
    FROM next, jsonb_array_elements(CAST(:documents AS jsonb)) AS one
    ON CONFLICT (target_id, prefix) DO UPDATE SET deployment_id = excluded.deployment_id,
        document = excluded.document, revision = excluded.revision, removed = excluded.removed
)
SELECT routing_revision, pg_notify('{ROUTES}', '') FROM next
""")  # noqa: S608 - fixed text

_SEEN = text(f"""
WITH ours AS (
    SELECT id FROM targets WHERE id = :target AND router_token_hash = :token_hash AND deleted_at IS NULL
), noted AS (
    INSERT INTO routers (target_id, router_id, applied_revision, seen_at)
    SELECT id, CAST(:router AS text), CAST(:revision AS bigint), now() FROM ours
    ON CONFLICT (target_id, router_id) DO UPDATE SET applied_revision = excluded.applied_revision, seen_at = now()
    WHERE routers.applied_revision <> excluded.applied_revision OR routers.seen_at < now() - interval '2 seconds'
    RETURNING router_id
)
SELECT EXISTS (SELECT FROM ours), (SELECT count(pg_notify('{ROUTERS}', '')) FROM noted),
    set_config('synchronous_commit', 'off', true)
""")  # noqa: S608 - fixed text
"""A router says it again within seconds, so nobody waits for the disk."""

_POINTERS = text("""
SELECT name, id, false, NULL, 0, true FROM versions WHERE deployment_id = :deployment AND deleted_at IS NULL
UNION ALL
SELECT name, version_id, true, canary_version_id, canary_percent, sticky FROM aliases WHERE deployment_id = :deployment
""")
_ROUTES = text("""
SELECT prefix, CAST(document AS text) FROM routes WHERE deployment_id = :deployment AND NOT removed
""")
_BEHIND = text("""
SELECT router_id, applied_revision < :revision AS behind FROM routers
WHERE target_id = :target AND seen_at > now() - make_interval(secs => :seconds)
""")

_COMPLETE, _CHANGED = (
    text(f"""
SELECT t.routing_revision,
    CAST((SELECT json_agg(document ORDER BY revision) FROM routes WHERE target_id = t.id AND {which}) AS text),
    CAST((SELECT json_agg(document ORDER BY revision) FROM route_keys WHERE target_id = t.id AND {which}) AS text)
FROM targets t WHERE t.id = :target
""")  # noqa: S608 - fixed text
    for which in ("NOT removed", "revision > :applied")
)


@dataclass(frozen=True, slots=True)
class Published:
    """A target's table, or what changed in it: routes and keys as JSON lists of their documents."""

    revision: int
    complete: bool
    routes: str
    keys: str


class RoutingStore:
    """Reads and writes the routing table in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def pointers(self, deployment_id: UUID) -> list[Pointer]:
        """The versions that have URLs, and the aliases, of a deployment."""
        return [Pointer(*row) for row in await self._session.execute(_POINTERS, {"deployment": deployment_id})]

    async def routes(self, deployment_id: UUID) -> dict[str, Route]:
        """The published routes of a deployment that are not removed, by prefix."""
        rows = await self._session.execute(_ROUTES, {"deployment": deployment_id})
        return {prefix: Route.model_validate_json(document) for prefix, document in rows}

    async def revision(self, target_id: UUID) -> int | None:
        """The newest revision of a target's table."""
        revision: int | None = await self._session.scalar(
            select(TargetRow.routing_revision).where(TargetRow.id == target_id)
        )
        return revision

    async def next_revision(self, target_id: UUID) -> int:
        """Take the next revision; the row lock holds until the transaction ends, so revisions commit in order."""
        return int((await self._session.execute(_NEXT, {"id": target_id})).scalar_one())

    async def put_routes(self, target_id: UUID, routes: Sequence[Route]) -> int:
        """Write routes as of the next revision, ring for the routers, and return the revision."""
        documents = json.dumps([one.model_dump(mode="json") for one in routes])
        values = {"id": target_id, "documents": documents}
        return int((await self._session.execute(_PUT_ROUTES, values)).scalar_one())

    async def put_key(self, target_id: UUID, revision: int, key: RouteKey) -> None:
        """Write a key as of a revision."""
        values = {"document": key.model_dump(mode="json"), "revision": revision, "removed": key.removed}
        statement = insert(RouteKeyRow).values(key_id=key.key_id, target_id=target_id, **values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["key_id"], set_=values))

    async def changes(self, target_id: UUID, applied: int) -> Published | None:
        """What a router at `applied` has to do; all of it, when it has nothing of ours. None: no such target."""
        if applied:
            row = (await self._session.execute(_CHANGED, {"target": target_id, "applied": applied})).one_or_none()
            if row is None or applied <= row[0]:
                return None if row is None else Published(row[0], False, row[1] or "[]", row[2] or "[]")
        row = (await self._session.execute(_COMPLETE, {"target": target_id})).one_or_none()
        return None if row is None else Published(row[0], True, row[1] or "[]", row[2] or "[]")

    async def seen(self, target_id: UUID, token_hash: str, router_id: str, revision: int) -> bool:
        """Note what a router has, and ring if that is news; False = the token is not the one of the target."""
        values = {"target": target_id, "token_hash": token_hash, "router": router_id, "revision": revision}
        return bool((await self._session.execute(_SEEN, values)).scalar_one())

    async def confirmations(self, target_id: UUID, revision: int, seconds: float) -> tuple[list[str], list[str]]:
        """Routers of the target that were heard of lately: those at `revision` or newer, and the others."""
        rows = (
            await self._session.execute(_BEHIND, {"target": target_id, "revision": revision, "seconds": seconds})
        ).all()
        return [row.router_id for row in rows if not row.behind], [row.router_id for row in rows if row.behind]
