"""A gateway beside the real scheduler, a small log relay, and a worker that says what a test tells it to."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import yaml

from slipway_db import MigrationSpec, bootstrap, migrate
from slipway_gateway.app import workers_app
from slipway_gateway.context import GatewayContext
from slipway_gateway.database import MIGRATIONS
from slipway_gateway.settings import GatewaySettings
from slipway_kit.logging import configure
from slipway_kit.service import Supervisor
from slipway_kit.settings import NeighbourSettings
from slipway_scheduler.database import MIGRATIONS as SCHEDULER_MIGRATIONS
from slipway_scheduler.settings import SchedulerSettings
from slipway_scheduler.spec import SPEC as SCHEDULER
from slipway_schemas.environments import EnvironmentCreate, EnvironmentView, GroupTokenCreated
from slipway_testing.neighbours.builder import VIEWS as BUILDER_VIEWS
from slipway_testing.roles import ROLE_PASSWORDS, service_url

SHA = "c" * 40
CONFIG = yaml.safe_load(
    """
- step:
    name: pre
    image: python:3.12
    command: [echo first, "python t.py {parameters}"]
    time-limit: 1h
    parameters:
      - {name: lr, type: float, default: 0.1, max: 1}
      - {name: name, type: string, optional: true}
    inputs:
      - {name: data, optional: true}
      - {name: lazy, optional: true, download: on-demand}
    environment-variables:
      - {name: A, default: step}
- step:
    name: strict
    image: busybox
    command: "true"
    environment: gpu
    parameters:
      - {name: x, type: integer}
    inputs:
      - name: must
    environment-variables:
      - {name: NEEDED, optional: false}
"""
)
LOGS_VIEW = """
CREATE TABLE logs.metadata_latest (execution_id uuid, attempt_id uuid, values jsonb, records bigint);
CREATE VIEW logs_pub.metadata_latest_v1 AS SELECT * FROM logs.metadata_latest;
GRANT SELECT ON logs_pub.metadata_latest_v1 TO slipway_gateway;
"""


async def _prepare(url: str) -> None:
    specs = [SCHEDULER_MIGRATIONS, MIGRATIONS]
    await bootstrap(url, [*specs, MigrationSpec("logs", "logs", "")], ROLE_PASSWORDS)
    await migrate(lambda service: service_url(url, service), specs)
    connection = await asyncpg.connect(url)
    await connection.execute(LOGS_VIEW)
    await connection.execute(BUILDER_VIEWS)
    await connection.close()


@pytest.fixture(scope="session")
def template_database(postgres_server) -> str:
    name = f"gateway_runs_template_{uuid4().hex[:8]}"  # other folders use this fixture, too, each for itself
    url = asyncio.run(postgres_server.create_database(name))
    asyncio.run(_prepare(url))
    return name


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Log as in production: rendering a traceback for people takes seconds."""
    configure("test", "WARNING", json=True)


@dataclass
class Relay:
    """A log relay that answers every request with `body` and remembers the request lines."""

    port: int = 0
    body: bytes = b'{"total":1,"truncated":false,"events":[]}'
    requests: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head.splitlines()[0])
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + self.body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


@dataclass
class Started:
    """What `settings` starts, for fixtures that come after it."""

    scheduler: Supervisor | None = None


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
async def settings(
    settings: GatewaySettings, started: Started, relay: Relay, database_url: str, valkey_url: str, tmp_path: Path
) -> AsyncIterator[GatewaySettings]:
    config = SchedulerSettings.model_validate(
        {
            "database": {"url": service_url(database_url, "scheduler")},
            "redis": {"url": valkey_url},
            "http": {"workers_port": 0, "internal_port": 0},
            "keys": {"private_key_file": tmp_path / "scheduler.pem", "trusted_keys_dir": tmp_path / "trusted"},
            "token_pepper_file": tmp_path / "pepper",
        }
    )
    async with Supervisor([(SCHEDULER, config)]).running() as supervisor:
        await supervisor.contexts["scheduler"].doorbell.wait_connected(5)
        started.scheduler = supervisor
        neighbours = NeighbourSettings(
            scheduler=f"http://127.0.0.1:{supervisor.ports['scheduler']['internal']}",
            logs=f"http://127.0.0.1:{relay.port}",
        )
        yield settings.model_copy(update={"neighbours": neighbours})


@pytest.fixture
def scheduler(settings: GatewaySettings, started: Started) -> Supervisor:
    assert started.scheduler is not None
    return started.scheduler


@pytest.fixture
async def environment(context: GatewayContext) -> EnvironmentView:
    body = EnvironmentCreate(slug="local", name="Local")
    return await context.scheduler.post("/internal/v1/environments", body=body, result=EnvironmentView)


@pytest.fixture
async def commit(execute, project: dict) -> dict:
    """A commit whose files are in the store, with the steps of `CONFIG`."""
    archive = hashlib.sha256(b"tar").hexdigest()
    await execute(
        "INSERT INTO gateway.archives (sha256, key, format, size, stored_sha256) VALUES ($1, $2, 'tar.zst', 7, $3)",
        archive,
        f"code/{archive[:2]}/{archive}.tar.zst",
        hashlib.sha256(b"zst").hexdigest(),
    )
    await execute(
        "INSERT INTO gateway.commits (id, project_id, identifier, ref, commit_time, yaml_path, config, archive_sha256)"
        " VALUES ($1, $2, $3, 'main', $4, 'valohai.yaml', $5, $6)",
        uuid4(),
        UUID(project["id"]),
        SHA,
        datetime.now(UTC),
        json.dumps(CONFIG),
        archive,
    )
    await execute(
        "INSERT INTO gateway.repository_refs (project_id, kind, name, head) VALUES ($1, 'branch', 'main', $2)",
        UUID(project["id"]),
        SHA,
    )
    return {"identifier": SHA}


@dataclass
class Lab:
    """A project that can run things."""

    me: httpx.AsyncClient
    project: dict[str, Any]

    async def run(self, step: str = "pre", **payload: Any) -> httpx.Response:
        body = {"project": self.project["id"], "commit": SHA, "step": step, **payload}
        return await self.me.post("/api/v0/executions/", json=body)

    async def created(self, step: str = "pre", **payload: Any) -> dict[str, Any]:
        answer = await self.run(step, **payload)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def upload(self, name: str, content: bytes, **fields: Any) -> dict[str, Any]:
        answer = await self.me.post(
            "/api/v0/data/upload/",
            data={"project": self.project["id"], "name": name, **fields},
            files={"file": (name, content)},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()


@pytest.fixture
async def lab(me: httpx.AsyncClient, project: dict, commit: dict, environment: EnvironmentView) -> Lab:
    return Lab(me, project)


@dataclass
class Attempt:
    """An attempt as its worker sees it."""

    http: httpx.AsyncClient
    id: UUID
    execution_id: UUID
    token: str

    async def post(self, path: str, body: dict[str, Any], token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return await self.http.post(f"/workers/v1/attempts/{self.id}/{path}", json=body, headers=headers)


@dataclass
class Machine:
    """A worker that takes assignments and starts user code at once."""

    scheduler: httpx.AsyncClient
    gateway: httpx.AsyncClient
    token: str
    running: list[UUID] = field(default_factory=list)
    seq: int = 0

    async def sync(self, *facts: dict[str, Any], wait: float = 0, lost: Sequence[str] = ()) -> dict[str, Any]:
        body = {
            "free": {"slots": 4 - len(self.running), "cpus": 8, "memory_bytes": 2**33},
            "attempts": [{"attempt_id": str(one), "phase": "running"} for one in self.running],
            "facts": list(facts),
            "lost": list(lost),
            "wait_seconds": wait,
        }
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = await self.scheduler.post("/workers/v1/sync", json=body, headers=headers, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def fact(self, attempt: UUID, kind: str, **more: Any) -> dict[str, Any]:
        self.seq += 1
        return {"kind": kind, "attempt_id": str(attempt), "seq": self.seq, "at": datetime.now(UTC).isoformat(), **more}

    async def start(self) -> Attempt:
        [assignment] = (await self.sync(wait=5))["assignments"]
        attempt = Attempt(
            self.gateway,
            UUID(assignment["attempt_id"]),
            UUID(assignment["document"]["execution_id"]),
            assignment["token"],
        )
        self.running.append(attempt.id)
        await self.sync(self.fact(attempt.id, "accepted"), self.fact(attempt.id, "user_code_started"))
        return attempt

    async def finish(self, attempt: Attempt, **more: Any) -> None:
        self.running.remove(attempt.id)
        await self.sync(self.fact(attempt.id, "exited", **{"code": 0, "reason": "success", **more}))


@pytest.fixture
async def workers(context: GatewayContext) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=workers_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://workers.test") as client:
        yield client


@pytest.fixture
async def machine(
    context: GatewayContext, scheduler: Supervisor, environment: EnvironmentView, workers: httpx.AsyncClient
) -> AsyncIterator[Machine]:
    group = await context.scheduler.post(
        f"/internal/v1/environments/{environment.id}/group-tokens", result=GroupTokenCreated
    )
    origin = f"http://127.0.0.1:{scheduler.ports['scheduler']['workers']}"
    async with httpx.AsyncClient(base_url=origin) as client:
        body = {
            "machine_id": "m1",
            "hostname": "m1",
            "agent_version": "1",
            "runtime": "fake",
            "capacity": {"slots": 4, "cpus": 8, "memory_bytes": 2**33},
        }
        answer = await client.post(
            "/workers/v1/register", json=body, headers={"Authorization": f"Bearer {group.token}"}
        )
        answer.raise_for_status()
        yield Machine(client, workers, answer.json()["worker_token"])
