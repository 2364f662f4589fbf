"""A running inference-builder on a real Postgres and Valkey with the process target, and a small gateway for it."""

import asyncio
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import zstandard
from fastapi import FastAPI, Response
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from slipway_builder.context import BuilderContext
from slipway_builder.database import MIGRATIONS
from slipway_builder.settings import BuilderSettings
from slipway_builder.spec import SPEC
from slipway_builder.targets.service import TargetService
from slipway_db import Database, MigrationSpec, bootstrap, migrate
from slipway_kit.auth import ServiceSigner
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import generate_keypair, load_private
from slipway_kit.logging import configure
from slipway_kit.service import Supervisor
from slipway_kit.vault import Vault
from slipway_schemas.executions import CodeRef
from slipway_schemas.inference.routing import RouterSync, TableChanges
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import (
    AliasMove,
    DeploymentDraft,
    EndpointDraft,
    EndpointFile,
    EndpointSpec,
    InferenceMaterialsRequest,
    Scale,
    TargetDraft,
    VersionDraft,
)
from slipway_testing.alias_moves import Move
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.roles import ROLE_PASSWORDS, service_url
from slipway_testing.servers import PostgresServer
from slipway_testing.wire import Wire, request

TEMPLATE = "slipway_builder_template"
ROUTER_TOKEN = "router-token"
OTHERS = (MigrationSpec("gateway", "gateway", ""),)
_VIEWS = (
    "CREATE TABLE gateway.events (position int, id uuid, name text, key text, actor int, occurred_at date, payload json)",  # noqa: E501
    "CREATE VIEW gateway_pub.event_v1 AS SELECT * FROM gateway.events",
    "GRANT SELECT ON gateway_pub.event_v1 TO slipway_builder",
)

SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        model = open("model.txt").read() if os.path.exists("model.txt") else ""
        body = json.dumps({"path": self.path, "model": model, "metadata": json.load(open("valohai-metadata.json")),
            "environment": {k: v for k, v in os.environ.items() if k.startswith(("VH_", "VALOHAI_", "MY_"))}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    configure("test", "WARNING", json=True)


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    async def make() -> None:
        if await postgres_server.has_database(TEMPLATE):
            return  # several folders use this fixture, and each has its own instance of it
        url = await postgres_server.create_database(TEMPLATE)
        await bootstrap(url, [MIGRATIONS, *OTHERS], ROLE_PASSWORDS)
        await migrate(lambda service: service_url(url, service), [MIGRATIONS])
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            for statement in _VIEWS:
                await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(make())
    return TEMPLATE


@dataclass
class SmallGateway:
    """Gives code and files as the gateway does."""

    code: dict[str, bytes] = field(default_factory=dict)
    files: dict[UUID, bytes] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    origin: str = ""
    missing: bool = False

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/internal/v1/inference/materials")
        async def materials(request: InferenceMaterialsRequest) -> Any:
            if request.code is not None and self.missing:
                problem = {"type": "about:blank", "title": "Conflict", "detail": "not yet", "code": "code_unavailable"}
                return Response(
                    json.dumps({**problem, "status": 409}),
                    409,
                    media_type="application/problem+json",
                )
            found: dict[str, Any] = {
                "files": [
                    {
                        "datum_id": str(one),
                        "url": f"{self.origin}/files/{one}",
                        "size": len(self.files[one]),
                        "sha256": hashlib.sha256(self.files[one]).hexdigest(),
                    }
                    for one in request.datum_ids
                    if one in self.files
                ],
                "environment": {
                    name: self.secrets[name] if one.secret else one.value
                    for name, one in request.environment_variables.items()
                },
            }
            if request.code is not None:
                code = self.code[request.code.identifier]
                found |= {
                    "code_url": f"{self.origin}/code/{request.code.identifier}",
                    "code_sha256": hashlib.sha256(code).hexdigest(),
                    "code_size": len(code),
                    "code_format": "tar.zst",
                }
            return found

        @app.get("/code/{identifier}")
        async def code(identifier: str) -> Response:
            return Response(self.code[identifier], media_type="application/octet-stream")

        @app.get("/files/{datum_id}")
        async def file(datum_id: UUID) -> Response:
            return Response(self.files[datum_id], media_type="application/octet-stream")

        return app

    def add_commit(self, identifier: str, files: Mapping[str, str]) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content.encode())
                tar.addfile(member, io.BytesIO(content.encode()))
        self.code[identifier] = zstandard.compress(buffer.getvalue())


@dataclass
class RunningBuilder:
    """Speaks for the gateway and for a router."""

    http: httpx.AsyncClient
    context: BuilderContext
    gateway: SmallGateway
    target_id: UUID
    token: str
    project_id: UUID = field(default_factory=uuid4)
    router_token: str = ROUTER_TOKEN

    @property
    def url(self) -> str:
        """Where routers ask."""
        return str(self.http.base_url)

    async def call(self, method: str, path: str, body: Any = None, *, status: int | None = None) -> Any:
        content = body.model_dump_json() if hasattr(body, "model_dump_json") else None
        answer = await self.http.request(
            method,
            f"/internal/v1/{path}",
            content=content,
            json=body if content is None and body is not None else None,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "X-Slipway-Actor": "7",
            },
        )
        if status is None:
            assert answer.status_code < 300, answer.text
        else:
            assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def deployment(self, name: str = "main", **more: Any) -> UUID:
        draft = DeploymentDraft(
            id=uuid4(), project_id=self.project_id, owner_id=1, creator_id=1, name=name, path="/acme/iris", **more
        )
        return UUID((await self.call("POST", "deployments", draft))["id"])

    async def version(
        self,
        deployment_id: UUID,
        *,
        commit: str = "c0ffee",
        model: bytes | None = None,
        command: str = "python3 server.py 8000",
        replicas: int = 1,
        replicas_max: int | None = None,
        image: str = "slipway-test/python:bookworm",
        **more: Any,
    ) -> dict[str, Any]:
        files: tuple[EndpointFile, ...] = ()
        if model is not None:
            datum = uuid4()
            self.gateway.files[datum] = model
            files = (
                EndpointFile(name="model", path="model.txt", datum_id=datum, datum_name="model-7.txt", size=len(model)),
            )
        spec = EndpointSpec(name="greet", image=image, server_command=(command,), files=files)
        draft = VersionDraft(
            id=uuid4(),
            deployment_id=deployment_id,
            project_id=self.project_id,
            creator_id=1,
            creator_name="alice",
            code=CodeRef(identifier=commit),
            endpoints=(EndpointDraft(spec=spec, scale=Scale(replicas=replicas, replicas_max=replicas_max)),),
            **more,
        )
        made: dict[str, Any] = await self.call("POST", "versions", draft)
        return made

    async def endpoint(self, version_id: str | UUID) -> dict[str, Any]:
        async with self.context.db.read() as session:
            rows = await session.execute(
                text("SELECT * FROM endpoints WHERE version_id = :id"), {"id": UUID(str(version_id))}
            )
            return dict(rows.mappings().one())

    async def until(self, version_id: str | UUID, status: str, seconds: float = 30) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (row := await self.endpoint(version_id))["status"] != status:
            assert loop.time() < until, f"{row['status']}: {row['status_detail']}, not {status}"
            await asyncio.sleep(0.05)
        return row

    async def move(self, deployment_id: UUID, version: Mapping[str, Any]) -> Move:
        """Point `production` at a version, by a client that takes next to no time itself."""
        body = AliasMove(version_id=UUID(str(version["id"]))).model_dump_json().encode()
        head = (f"Authorization: Bearer {self.token}", "Content-Type: application/json")
        path = f"/internal/v1/deployments/{deployment_id}/aliases/production"
        async with Wire(self.http.base_url.port or 80) as wire:
            called = time.monotonic()
            await wire.send(request("PUT", path, *head, body=body))
            answer = await wire.answer()
            confirmed = time.monotonic()
        assert answer.status == 200, answer.body
        return Move(called, confirmed, version["name"], answer.json()["confirmed_ms"] / 1000)

    async def table(self, applied: int = 0, *, wait: float = 0, router: str = "router-1") -> TableChanges:
        body = RouterSync(router_id=router, target_id=self.target_id, applied_revision=applied, wait_seconds=wait)
        answer = await self.http.post(
            "/internal/v1/routers/sync",
            content=body.model_dump_json(),
            headers={"Authorization": f"Bearer {self.router_token}", "Content-Type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        return TableChanges.model_validate_json(answer.content)

    async def ask(self, prefix: str) -> dict[str, Any]:
        """Call the first backend of a route, as a router would."""
        route = next(one for one in (await self.table()).routes if one.prefix == prefix)
        (backend,) = route.backends
        answer = await self.http.get(f"http://{backend.host}:{backend.port}{prefix}/predict")
        found: dict[str, Any] = answer.json()
        return found


Start = Callable[..., AbstractAsyncContextManager[RunningBuilder]]


@pytest.fixture
def start(database_url: str, valkey_url: str, tmp_path: Path) -> Start:
    """Start a builder; again on the same database and home after it was ended."""
    gateway = SmallGateway()
    installation = uuid4().hex
    gateway.add_commit("c0ffee", {"server.py": SERVER})
    trusted = tmp_path / "trusted"
    (tmp_path / "secret").write_bytes(os.urandom(32))
    for name in ("builder", "gateway"):
        generate_keypair(tmp_path / f"{name}.pem", trusted / f"{name}.pub.pem")

    @asynccontextmanager
    async def run(
        *,
        kind: TargetKind = TargetKind.PROCESS,
        target: TargetDraft | None = None,
        ends_with_builder: bool = True,
        logs: str = "",
        **more: Any,
    ) -> AsyncIterator[RunningBuilder]:
        async with ServedApp(gateway.app()) as served:
            origin = served.url
            gateway.origin = origin
            settings = BuilderSettings.model_validate(
                {
                    "database": {"url": service_url(database_url, "builder"), "pool_size": 6},
                    "redis": {"url": valkey_url},
                    "keys": {"private_key_file": tmp_path / "builder.pem", "trusted_keys_dir": trusted},
                    "neighbours": {"gateway": origin, "logs": logs},
                    "http": {"internal_port": 0},
                    "secret_key_file": tmp_path / "secret",
                    "work_dir": tmp_path / "work",
                    "docker": {
                        "installation": installation,
                        "ends_with_builder": ends_with_builder,
                        "network": os.environ.get("SLIPWAY_TEST_DOCKER_NETWORK", ""),
                    },
                    "process": {"home": tmp_path / "serving", "ends_with_builder": ends_with_builder},
                    **more,
                }
            )
            vault = Vault(KeyRing(settings.secret_key_file))
            supervisor = Supervisor([(SPEC, settings)])
            db = Database(settings.database.url.get_secret_value(), schema="builder", pool_size=1)
            async with db.transaction() as session:
                targets, router_token = TargetService(session, vault), ROUTER_TOKEN
                if target is not None:
                    made = await targets.create(target)
                    target_id, router_token = made.id, made.router_token
                else:
                    target_id = await targets.ensure("local", kind, "http://127.0.0.1:8001", ROUTER_TOKEN)
            await db.close()
            token = ServiceSigner("gateway", load_private(tmp_path / "gateway.pem")).token("builder")
            async with supervisor.running():
                port = supervisor.ports["builder"]["internal"]
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
                    yield RunningBuilder(
                        http, supervisor.contexts["builder"], gateway, target_id, token, router_token=router_token
                    )

    return run
