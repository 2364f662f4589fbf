"""A gateway beside a builder that serves nothing, a project whose YAML has endpoints, and files for them."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml

from slipway_gateway.app import public_app
from slipway_gateway.context import Factory, GatewayContext, open_context
from slipway_gateway.identity.dependencies import SESSION_COOKIE
from slipway_gateway.identity.domain import TokenKind, User
from slipway_gateway.settings import GatewaySettings
from slipway_kit.auth import ServiceVerifier
from slipway_kit.keys import generate_keypair, load_trusted
from slipway_kit.settings import NeighbourSettings
from slipway_testing.neighbours.builder import BuilderNeighbour
from slipway_testing.neighbours.endpoint_logs import EndpointLogsNeighbour
from slipway_testing.neighbours.serving import ServedApp
from tests.api.gateway.web.conftest import ORIGIN, Browser

SHA = "d" * 40
CONFIG = yaml.safe_load(
    """
- step: {name: train, image: "python:3.12", command: "true"}
- endpoint:
    name: greet
    description: Says hello
    image: python:3.12-slim
    port: 8000
    server-command: ~/.local/bin/uvicorn app:app --host 0.0.0.0
    files:
      - {name: model, path: models/model.bin}
    node-selector: disk=ssd
    tolerations:
      - {key: gpu, operator: Exists, effect: NoSchedule}
    resources:
      cpu: {min: 0.5, max: 2}
      memory: {min: 200, max: 1000}
      ephemeral-storage: {min: 10, max: 20}
      devices: {nvidia.com/gpu: 1}
    workspace-volume: {mount-path: /scratch, size: 5}
    shared-volumes:
      - {pvc-name: models, mount-path: /models, sub-path: v1, read-only: true}
- endpoint:
    name: plain
    image: python:3.12-slim
    wsgi: app:application
- deployment: {name: main, defaults: {target: local}}
- deployment: {name: lost, defaults: {target: nowhere}}
"""
)


@pytest.fixture
async def builder(database_url: str, settings: GatewaySettings) -> BuilderNeighbour:
    trusted = load_trusted(settings.keys.trusted_keys_dir)
    return BuilderNeighbour(database_url, ServiceVerifier("builder", trusted))


@pytest.fixture
async def served_builder(builder: BuilderNeighbour) -> AsyncIterator[ServedApp]:
    async with ServedApp(builder.app()) as served:
        yield served


@pytest.fixture
async def logs(settings: GatewaySettings) -> EndpointLogsNeighbour:
    return EndpointLogsNeighbour(ServiceVerifier("logs", load_trusted(settings.keys.trusted_keys_dir)))


@pytest.fixture
async def served_logs(logs: EndpointLogsNeighbour) -> AsyncIterator[ServedApp]:
    async with ServedApp(logs.app()) as served:
        yield served


@pytest.fixture
async def context(
    settings: GatewaySettings, served_builder: ServedApp, served_logs: ServedApp, tmp_path: Path
) -> AsyncIterator[GatewayContext]:
    generate_keypair(tmp_path / "builder.pem", tmp_path / "trusted" / "builder.pub.pem")
    neighbours = NeighbourSettings(scheduler="http://127.0.0.1:1", logs=served_logs.url, builder=served_builder.url)
    async with open_context(settings.model_copy(update={"neighbours": neighbours})) as opened:
        yield opened


async def add_commit(
    execute: Any, project_id: str, identifier: str, config: Any, *, archived: bool = True, ref: str = "main"
) -> None:
    """A commit with its YAML read; its archive lies in the store, or was never made."""
    archive = hashlib.sha256(identifier.encode()).hexdigest()
    if archived:
        await execute(
            "INSERT INTO gateway.archives (sha256, key, format, size, stored_sha256) VALUES ($1, $2, 'tar.zst', 7, $3)",
            *(archive, f"code/{archive[:2]}/{archive}.tar.zst", hashlib.sha256(b"zst").hexdigest()),
        )
    await execute(
        "INSERT INTO gateway.commits (id, project_id, identifier, ref, description, commit_time, yaml_path, config,"
        " archive_sha256) VALUES ($1, $2, $3, $4, 'Serve it', $5, 'valohai.yaml', $6, $7)",
        *(uuid4(), UUID(project_id), identifier, ref, datetime.now(UTC), json.dumps(config)),
        archive if archived else None,
    )
    await execute(
        "INSERT INTO gateway.repository_refs (project_id, kind, name, head) VALUES ($1, 'branch', $2, $3)",
        *(UUID(project_id), ref, identifier),
    )


@dataclass
class Lab:
    """A project with a commit, a file and a deployment."""

    me: httpx.AsyncClient
    project: dict[str, Any]
    deployment: dict[str, Any]
    model: dict[str, Any]
    builder: BuilderNeighbour
    logs: EndpointLogsNeighbour

    def body(self, **changes: Any) -> dict[str, Any]:
        """What the command line sends."""
        configurations = {"greet": {"enabled": True, "files": {"model": self.model["id"]}, "replicas": 1}}
        return {
            "commit": SHA,
            "deployment": self.deployment["id"],
            "enabled": True,
            "inherit_environment_variables": False,
            "environment_variables": {},
            "endpoint_configurations": configurations,
            **changes,
        }

    async def post(self, **changes: Any) -> httpx.Response:
        return await self.me.post("/api/v0/deployment-versions/", json=self.body(**changes))

    async def version(self, **changes: Any) -> dict[str, Any]:
        answer = await self.post(**changes)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def upload(self, name: str, content: bytes, client: httpx.AsyncClient | None = None) -> dict[str, Any]:
        return await upload(client or self.me, self.project["id"], name, content)


async def upload(client: httpx.AsyncClient, project_id: str, name: str, content: bytes) -> dict[str, Any]:
    """A file of a project."""
    answer = await client.post(
        "/api/v0/data/upload/", data={"project": project_id, "name": name}, files={"file": (name, content)}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def lab(
    me: httpx.AsyncClient, project: dict, execute: Any, builder: BuilderNeighbour, logs: EndpointLogsNeighbour
) -> Lab:
    await add_commit(execute, project["id"], SHA, CONFIG)
    answer = await me.post("/api/v0/deployments/", json={"project": project["id"], "name": "main"})
    assert answer.status_code == 201, answer.text
    model = await upload(me, project["id"], "model.bin", b"weights")
    return Lab(me, project, answer.json(), model, builder, logs)


@pytest.fixture
async def browser_of(context: GatewayContext) -> AsyncIterator[Any]:
    """Browsers of users who exist."""
    opened: list[httpx.AsyncClient] = []
    transport = httpx.ASGITransport(app=public_app(context))

    async def open_for(client: httpx.AsyncClient) -> Browser:
        found = (await client.get("/api/v0/users/me/")).json()
        user = User(found["id"], found["username"], "", False)
        async with context.db.transaction() as session:
            tokens = Factory(context, session).tokens
            token = await tokens.issue(user.id, TokenKind.SESSION, name="browser", expires_at=None)
        http = httpx.AsyncClient(transport=transport, base_url=ORIGIN, cookies={SESSION_COOKIE: token.value})
        opened.append(http)
        return Browser(http, user)

    yield open_for
    for http in opened:
        await http.aclose()


@pytest.fixture
async def browser(browser_of: Any, lab: Lab) -> Browser:
    return await browser_of(lab.me)
