"""An inference-builder that keeps what the gateway tells it in plain tables under the names of its published views.

It builds and serves nothing: a test says how endpoints are.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_kit.auth import ACTOR_HEADER, ServiceVerifier, bearer_token
from slipway_kit.errors import Conflict, Problem, SlipwayError
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import (
    MASK,
    AliasMove,
    AliasMoved,
    DeploymentChange,
    DeploymentDraft,
    EndpointChange,
    KeyDraft,
    TargetChange,
    TargetDraft,
    VersionChange,
    VersionDraft,
)

TARGET_ID = UUID("0190a0a0-0000-7000-8000-00000000007a")
VIEWS = f"""
CREATE SCHEMA builder_pub;
CREATE TABLE builder_pub.target_v1 (id uuid, name text, kind text, public_url text, is_default bool,
    created_at timestamptz, unreachable_since timestamptz, problem text DEFAULT '');
CREATE TABLE builder_pub.deployment_v1 (id uuid PRIMARY KEY, project_id uuid, owner_id int, creator_id int, name text,
    path text, target_id uuid, enabled bool, public bool, created_at timestamptz, modified_at timestamptz,
    deleted_at timestamptz);
CREATE TABLE builder_pub.version_v1 (id uuid PRIMARY KEY, deployment_id uuid, project_id uuid, name text,
    creator_id int, creator_name text, commit_identifier text, adhoc bool, enabled bool, own_variables jsonb,
    created_at timestamptz, modified_at timestamptz, deleted_at timestamptz);
CREATE TABLE builder_pub.endpoint_v1 (id uuid PRIMARY KEY, version_id uuid, deployment_id uuid, name text, spec jsonb,
    enabled bool, status text, status_detail text, replicas_ready int, replicas_wanted int, scale jsonb, image_id uuid,
    created_at timestamptz, modified_at timestamptz, problem text, restarts int DEFAULT 0,
    last_lines text[] DEFAULT '{{}}');
CREATE TABLE builder_pub.alias_v1 (id uuid PRIMARY KEY, deployment_id uuid, name text, version_id uuid,
    canary_version_id uuid, canary_percent int, modified_at timestamptz, sticky bool DEFAULT true,
    max_error_percent double precision, max_latency_ms double precision);
CREATE TABLE builder_pub.alias_move_v1 (id uuid PRIMARY KEY, alias_id uuid, deployment_id uuid, alias_name text,
    version_id uuid, previous_version_id uuid, actor_id int, reason text, automatic bool, at timestamptz,
    canary_version_id uuid, canary_percent int DEFAULT 0);
CREATE TABLE builder_pub.key_v1 (id uuid PRIMARY KEY, deployment_id uuid, consumer text, endpoints text[],
    expires_at timestamptz, requests_per_minute int, created_at timestamptz, last_used_at timestamptz,
    revoked_at timestamptz, creator_id int);
CREATE TABLE builder_pub.image_v1 (id uuid PRIMARY KEY, status text, detail text, reference text, digest text,
    base text, builder text, started_at timestamptz, ended_at timestamptz);
CREATE TABLE builder_pub.endpoint_minute_v1 (endpoint_id uuid, prefix text, minute timestamptz, requests bigint,
    server_errors bigint, client_errors bigint, latency_ms_sum double precision, latency_ms_max double precision,
    buckets bigint[]);
INSERT INTO builder_pub.target_v1 VALUES ('{TARGET_ID}', 'local', 'process', 'http://127.0.0.1:9', true, now());
GRANT USAGE ON SCHEMA builder_pub TO slipway_gateway;
GRANT SELECT ON ALL TABLES IN SCHEMA builder_pub TO slipway_gateway;
"""


class BuilderNeighbour:
    """The builder's internal API for the gateway. `calls` remembers `METHOD path` and the acting user."""

    def __init__(self, database_url: str, verifier: ServiceVerifier) -> None:
        self._database_url = database_url
        self._verifier = verifier
        self.calls: list[tuple[str, int | None]] = []
        self.drafts: list[VersionDraft] = []
        self.keys: list[KeyDraft] = []
        self.moves: list[AliasMove] = []
        self.target_changes: list[TargetChange] = []
        self.build_log: dict[str, Any] = {"lines": [], "next": 0, "status": "ready", "detail": ""}

    def app(self) -> Starlette:
        """The ASGI app."""
        handlers: dict[str, dict[str, Any]] = {
            "deployments": {"POST": self._create_deployment},
            "deployments/{id}": {"PATCH": self._change_deployment, "DELETE": self._delete_deployment},
            "deployments/{id}/suggested-version-name": {"GET": self._suggest},
            "deployments/{id}/aliases/{name}": {"PUT": self._move_alias, "DELETE": self._delete_alias},
            "deployments/{id}/aliases/{name}/rollback": {"POST": self._roll_back},
            "versions": {"POST": self._create_version},
            "versions/{id}": {"PATCH": self._change_version, "DELETE": self._delete_version},
            "versions/{id}/rebuild": {"POST": self._nothing},
            "versions/{id}/cancel": {"POST": self._nothing},
            "endpoints/{id}": {"PATCH": self._change_endpoint},
            "images/{id}/log": {"GET": self._image_log},
            "keys": {"POST": self._create_key},
            "keys/{id}": {"DELETE": self._revoke_key},
            "targets": {"POST": self._create_target},
            "targets/{id}": {"GET": self._target, "PATCH": self._change_target, "DELETE": self._delete_target},
            "targets/{id}/check": {"POST": self._check_target},
            "targets/{id}/router-token": {"POST": self._renew_router_token},
            "targets/{id}/clean-up": {"POST": self._clean_up_target},
        }
        return Starlette(
            routes=[
                Route(f"/internal/v1/{path}", self._guarded(handler), methods=[method])
                for path, methods in handlers.items()
                for method, handler in methods.items()
            ]
        )

    async def available(self, version_id: UUID) -> None:
        """All endpoints of a version serve with all replicas."""
        await self.run(
            "UPDATE builder_pub.endpoint_v1 SET status = 'AVAILABLE', status_detail = '',"
            " replicas_ready = replicas_wanted WHERE version_id = $1",
            version_id,
        )

    async def run(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Run a statement as the database's administrator."""
        connection = await asyncpg.connect(self._database_url)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return found
        finally:
            await connection.close()

    def _guarded(self, handler: Any) -> Any:
        async def answer(request: Request) -> Response:
            try:
                self._verifier.verify(bearer_token(request))
                actor = request.headers.get(ACTOR_HEADER)
                self.calls.append((f"{request.method} {request.url.path}", int(actor) if actor else None))
                made = await handler(request)
            except SlipwayError as error:
                problem = Problem.of(error)
                body = problem.model_dump(mode="json", exclude_none=True)
                return JSONResponse(body, problem.status, media_type="application/problem+json")
            if made is None:
                return Response(status_code=204)
            return JSONResponse(made, 201 if request.method == "POST" else 200)

        return answer

    async def _create_deployment(self, request: Request) -> Mapping[str, Any]:
        draft = DeploymentDraft.model_validate_json(await request.body())
        target = str(draft.target) if draft.target else ""
        targets = await self.run(
            "SELECT id FROM builder_pub.target_v1 WHERE id::text = $1 OR name = $1 OR ($1 = '' AND is_default)", target
        )
        if not targets:
            raise Conflict(f"There is no target {target!r}.", field="target", code="does_not_exist")
        taken = await self.run(
            "SELECT 1 FROM builder_pub.deployment_v1 WHERE project_id = $1 AND name = $2 AND id <> $3"
            " AND deleted_at IS NULL",
            *(draft.project_id, draft.name, draft.id),
        )
        if taken:
            raise Conflict(f"The project has a deployment named {draft.name}.", field="name", code="unique")
        await self.run(
            "INSERT INTO builder_pub.deployment_v1 VALUES ($1, $2, $3, $4, $5, $6, $7, true, $8, now(), now())"
            " ON CONFLICT DO NOTHING",
            *(draft.id, draft.project_id, draft.owner_id, draft.creator_id, draft.name, draft.path),
            *(targets[0]["id"], draft.public),
        )
        return {"id": str(draft.id), "name": draft.name}

    async def _change_deployment(self, request: Request) -> None:
        change = DeploymentChange.model_validate_json(await request.body())
        await self.run(
            "UPDATE builder_pub.deployment_v1 SET enabled = coalesce($2, enabled), public = coalesce($3, public),"
            " modified_at = now() WHERE id = $1",
            *(_id(request), change.enabled, change.public),
        )

    async def _delete_deployment(self, request: Request) -> None:
        await self.run("UPDATE builder_pub.deployment_v1 SET deleted_at = now() WHERE id = $1", _id(request))

    async def _suggest(self, request: Request) -> Mapping[str, Any]:
        return {"name": await self._free_name(_id(request))}

    async def _free_name(self, deployment_id: UUID) -> str:
        day = datetime.now(UTC).strftime("%Y%m%d")
        names = await self.run("SELECT name FROM builder_pub.version_v1 WHERE deployment_id = $1", deployment_id)
        taken = {row["name"] for row in names}
        return next(name for number in range(1000) if (name := f"{day}.{number}") not in taken)

    async def _create_version(self, request: Request) -> Mapping[str, Any]:
        draft = VersionDraft.model_validate_json(await request.body())
        self.drafts.append(draft)
        name = draft.name or await self._free_name(draft.deployment_id)
        taken = await self.run(
            "SELECT 1 FROM (SELECT deployment_id, name, id FROM builder_pub.version_v1 WHERE deleted_at IS NULL"
            " UNION ALL SELECT deployment_id, name, id FROM builder_pub.alias_v1) AS both_kinds"
            " WHERE deployment_id = $1 AND name = $2 AND id <> $3",
            *(draft.deployment_id, name, draft.id),
        )
        if taken:
            raise Conflict(f"The deployment has a version or an alias named {name}.", field="name", code="unique")
        made = await self.run(
            "INSERT INTO builder_pub.version_v1 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now())"
            " ON CONFLICT DO NOTHING RETURNING id",
            *(draft.id, draft.deployment_id, draft.project_id, name, draft.creator_id, draft.creator_name),
            *(draft.code.identifier, draft.code.adhoc, draft.enabled, json.dumps(draft.own_variables)),
        )
        for one in draft.endpoints if made else ():
            image_id = new_id()
            await self.run(
                "INSERT INTO builder_pub.image_v1 VALUES ($1, 'building', '', NULL, NULL, $2, 'append', now())",
                *(image_id, one.spec.image),
            )
            await self.run(
                "INSERT INTO builder_pub.endpoint_v1 VALUES"
                " ($1, $2, $3, $4, $5, $6, 'BUILDING_IMAGE', '', 0, $7, $8, $9, now(), now())",
                *(new_id(), draft.id, draft.deployment_id, one.spec.name, one.spec.model_dump_json(), one.enabled),
                *(one.scale.replicas, one.scale.model_dump_json(), image_id),
            )
        return {"id": str(draft.id), "name": name}

    async def _change_version(self, request: Request) -> None:
        change = VersionChange.model_validate_json(await request.body())
        await self.run(
            "UPDATE builder_pub.version_v1 SET enabled = coalesce($2, enabled), modified_at = now() WHERE id = $1",
            *(_id(request), change.enabled),
        )

    async def _delete_version(self, request: Request) -> None:
        if await self.run("SELECT 1 FROM builder_pub.alias_v1 WHERE version_id = $1", _id(request)):
            raise Conflict("An alias stands at this version. Move it first.", code="in_use")
        await self.run("UPDATE builder_pub.version_v1 SET deleted_at = now() WHERE id = $1", _id(request))

    async def _change_endpoint(self, request: Request) -> None:
        change = EndpointChange.model_validate_json(await request.body())
        await self.run(
            "UPDATE builder_pub.endpoint_v1 SET enabled = coalesce($2, enabled), scale = coalesce($3, scale),"
            " replicas_wanted = coalesce($4, replicas_wanted), modified_at = now() WHERE id = $1",
            *(_id(request), change.enabled, change.scale.model_dump_json() if change.scale else None),
            change.scale.replicas if change.scale else None,
        )

    async def _move_alias(self, request: Request) -> Mapping[str, Any]:
        move = AliasMove.model_validate_json(await request.body())
        self.moves.append(move)
        return await self._moved(request, move)

    async def _roll_back(self, request: Request) -> Mapping[str, Any]:
        [last] = await self.run(
            "SELECT previous_version_id FROM builder_pub.alias_move_v1 WHERE deployment_id = $1 AND alias_name = $2"
            " ORDER BY at DESC LIMIT 1",
            *(_id(request), request.path_params["name"]),
        )
        if last["previous_version_id"] is None:
            raise Conflict("The alias has stood nowhere else.", code="no_previous_version")
        return await self._moved(request, AliasMove(version_id=last["previous_version_id"], reason="rollback"))

    async def _moved(self, request: Request, move: AliasMove) -> Mapping[str, Any]:
        deployment_id, name = _id(request), request.path_params["name"]
        waiting = await self.run(
            "SELECT name, status FROM builder_pub.endpoint_v1 WHERE version_id = $1 AND status <> 'AVAILABLE'",
            move.version_id,
        )
        if waiting:
            raise Conflict(
                f"The version is not ready: {waiting[0]['name']} is {waiting[0]['status']}.", code="not_ready"
            )
        found = await self.run(
            "SELECT id, version_id FROM builder_pub.alias_v1 WHERE deployment_id = $1 AND name = $2",
            *(deployment_id, name),
        )
        alias_id = found[0]["id"] if found else new_id()
        previous = found[0]["version_id"] if found else None
        await self.run(
            "INSERT INTO builder_pub.alias_v1 VALUES ($1, $2, $3, $4, $5, $6, now(), $7, $8, $9) ON CONFLICT (id)"
            " DO UPDATE SET version_id = $4, canary_version_id = $5, canary_percent = $6, modified_at = now(),"
            " sticky = $7, max_error_percent = $8, max_latency_ms = $9",
            *(alias_id, deployment_id, name, move.version_id, move.canary_version_id, move.canary_percent),
            *(move.sticky, move.max_error_percent, move.max_latency_ms),
        )
        await self.run(
            "INSERT INTO builder_pub.alias_move_v1 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false, now(), $9, $10)",
            *(new_id(), alias_id, deployment_id, name, move.version_id, previous),
            *(int(request.headers[ACTOR_HEADER]), move.reason, move.canary_version_id, move.canary_percent),
        )
        moved = AliasMoved(
            id=alias_id,
            name=name,
            version_id=move.version_id,
            previous_version_id=previous,
            revision=len(self.calls),
            confirmed_routers=1,
            confirmed_ms=0.4,
        )
        return moved.model_dump(mode="json")

    async def _delete_alias(self, request: Request) -> None:
        await self.run(
            "DELETE FROM builder_pub.alias_v1 WHERE deployment_id = $1 AND name = $2",
            *(_id(request), request.path_params["name"]),
        )

    async def _create_key(self, request: Request) -> Mapping[str, Any]:
        draft = KeyDraft.model_validate_json(await request.body())
        self.keys.append(draft)
        if draft.hidden:
            return {"id": str(draft.id), "name": draft.consumer}
        await self.run(
            "INSERT INTO builder_pub.key_v1 VALUES ($1, $2, $3, $4, $5, $6, now(), NULL, NULL, $7)",
            *(draft.id, draft.deployment_id, draft.consumer, list(draft.endpoints), draft.expires_at),
            *(draft.requests_per_minute, draft.creator_id),
        )
        return {"id": str(draft.id), "name": draft.consumer}

    async def _revoke_key(self, request: Request) -> None:
        await self.run("UPDATE builder_pub.key_v1 SET revoked_at = now() WHERE id = $1", _id(request))

    async def _create_target(self, request: Request) -> Mapping[str, Any]:
        draft = TargetDraft.model_validate_json(await request.body())
        target_id = new_id()
        await self.run(
            "INSERT INTO builder_pub.target_v1 VALUES ($1, $2, $3, $4, false, now())",
            *(target_id, draft.name, draft.kind.value, draft.public_url),
        )
        return {"id": str(target_id), "router_token": "shown-once"}

    async def _target(self, request: Request) -> Mapping[str, Any]:
        settings = {"cluster": {"namespace": "endpoints", "kubeconfig": MASK}}
        return {"id": str(_id(request)), "settings": settings}

    async def _change_target(self, request: Request) -> None:
        change = TargetChange.model_validate_json(await request.body())
        self.target_changes.append(change)
        if change.settings is not None and "cluster" not in change.settings:
            raise Conflict("It serves endpoints from another namespace.", field="settings")
        if change.public_url is not None:
            await self.run(
                "UPDATE builder_pub.target_v1 SET public_url = $2 WHERE id = $1", _id(request), change.public_url
            )
        if change.is_default:
            await self.run("UPDATE builder_pub.target_v1 SET is_default = id = $1", _id(request))

    async def _delete_target(self, request: Request) -> None:
        if await self.run("SELECT 1 FROM builder_pub.deployment_v1 WHERE target_id = $1", _id(request)):
            raise Conflict("The target has 1 deployments. Delete them first.")
        await self.run("DELETE FROM builder_pub.target_v1 WHERE id = $1", _id(request))

    async def _renew_router_token(self, request: Request) -> Mapping[str, Any]:
        return {"id": str(_id(request)), "router_token": "shown-once-more"}

    async def _check_target(self, request: Request) -> Mapping[str, Any]:
        return {"checks": [{"name": "connection", "ok": True, "message": ""}]}

    async def _clean_up_target(self, request: Request) -> Mapping[str, Any]:
        dry_run = request.query_params.get("dry_run") != "false"
        return {"deleted": ["inference/old@sha256:1"], "kept": 1, "dry_run": dry_run}

    async def _nothing(self, request: Request) -> None:
        """Done at once."""

    async def _image_log(self, request: Request) -> Mapping[str, Any]:
        return self.build_log


def _id(request: Request) -> UUID:
    return UUID(request.path_params["id"])
