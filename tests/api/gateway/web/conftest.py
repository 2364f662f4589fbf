"""A browser in front of the gateway, beside the real scheduler and a small log relay."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import yaml

from slipway_db import MigrationSpec, bootstrap, migrate
from slipway_gateway.app import public_app
from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.database import MIGRATIONS
from slipway_gateway.identity.dependencies import SESSION_COOKIE
from slipway_gateway.identity.domain import TokenKind, User
from slipway_gateway.settings import GatewaySettings
from slipway_kit.ids import new_id
from slipway_kit.service import Supervisor
from slipway_kit.settings import NeighbourSettings
from slipway_scheduler.database import MIGRATIONS as SCHEDULER_MIGRATIONS
from slipway_scheduler.settings import SchedulerSettings
from slipway_scheduler.spec import SPEC as SCHEDULER
from slipway_schemas.environments import EnvironmentCreate, EnvironmentView
from slipway_testing.neighbours.builder import VIEWS as BUILDER_VIEWS
from slipway_testing.roles import ROLE_PASSWORDS, service_url

ORIGIN = "http://slipway.test"
SHA = "c" * 40
BROKEN_SHA = "b" * 40
CONFIG = yaml.safe_load(
    """
- step:
    name: train
    description: Trains the model on the digits.
    image: python:3.12
    command: [pip install -r requirements.txt, "python train.py {parameters}"]
    parameters:
      - {name: learning_rate, type: float, default: 0.1, max: 1, description: Size of a step}
      - {name: optimizer, type: string, default: adam, choices: [adam, sgd]}
      - {name: layers, type: integer, multiple: repeat, default: [64, 32]}
      - {name: verbose, type: flag}
    inputs:
      - {name: data, optional: true, description: Images}
- step:
    name: strict
    image: busybox
    command: "true"
    parameters:
      - {name: x, type: integer}
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
    name = "gateway_web_template"
    url = asyncio.run(postgres_server.create_database(name))
    asyncio.run(_prepare(url))
    return name


class Relay:
    """A log relay that knows one run's log and metadata."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.usage: list[dict[str, Any]] = []
        self.log = b"<script>alert(1)</script>\n"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            answer = self.usage if "/usage" in path else self.records
            body = self.log if path.endswith("/log") else json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def relay() -> Relay:
    return Relay()


@pytest.fixture
async def settings(
    settings: GatewaySettings, relay: Relay, database_url: str, valkey_url: str, tmp_path: Path
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
    logs = await asyncio.start_server(relay.answer, "127.0.0.1", 0)
    async with logs, Supervisor([(SCHEDULER, config)]).running() as supervisor:
        yield settings.model_copy(
            update={
                "neighbours": NeighbourSettings(
                    scheduler=f"http://127.0.0.1:{supervisor.ports['scheduler']['internal']}",
                    logs=f"http://127.0.0.1:{logs.sockets[0].getsockname()[1]}",
                )
            }
        )


class Browser:
    """Opens pages and sends forms as a person's browser does."""

    def __init__(self, http: httpx.AsyncClient, user: User) -> None:
        self.http = http
        self.user = user

    async def get(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-2000:])
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return answer.text

    async def send(self, page: str, action: str | None = None, **fields: str) -> httpx.Response:
        """Post a form with the token that stands on `page`."""
        found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', await self.get(page))
        assert found is not None
        return await self.http.post(action or page, data={"csrf_token": found[1], **fields})


@pytest.fixture
async def browser_of(context: GatewayContext) -> AsyncIterator[Any]:
    app = public_app(context)
    opened: list[httpx.AsyncClient] = []

    async def make(name: str) -> Browser:
        async with context.db.transaction() as session:
            services = Factory(context, session)
            user = await services.accounts.add_user(name)
            token = await services.tokens.issue(user.id, TokenKind.SESSION, name="browser", expires_at=None)
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url=ORIGIN, cookies={SESSION_COOKIE: token.value}
        )
        opened.append(http)
        return Browser(http, user)

    yield make
    for http in opened:
        await http.aclose()


@pytest.fixture
async def ann(browser_of) -> Browser:
    return await browser_of("ann")


@pytest.fixture
async def bob(browser_of) -> Browser:
    return await browser_of("bob")


@dataclass
class Lab:
    """Ann's project with commits, an environment with a worker, executions and files."""

    project_id: UUID
    environment_id: UUID
    root: str
    executions: dict[str, UUID]
    datum_id: UUID

    def pages(self) -> list[str]:
        """Every page that belongs to the project."""
        places = ["", "executions/", "executions/?status=incomplete", "commits/", "data/", "repository/", "variables/"]
        commits = [f"commit/{SHA}/", f"commit/{BROKEN_SHA}/", f"commit/{SHA}/run/", f"commit/{SHA}/run/?step=strict"]
        runs = [f"execution/{one}/" for one in self.executions.values()]
        return [self.root + place for place in (*places, *commits, *runs)]


async def _commits(execute, project_id: UUID) -> None:
    archive = "a" * 64
    await execute(
        "INSERT INTO gateway.archives (sha256, key, format, size, stored_sha256)"
        " VALUES ($1, 'k', 'tar.zst', 70000, $1)",
        archive,
    )
    statement = (
        "INSERT INTO gateway.commits"
        " (id, project_id, identifier, ref, description, commit_time, yaml_path, config, config_error, archive_sha256)"
        " VALUES ($1, $2, $3, 'main', $4, $5, 'valohai.yaml', $6, $7, $8)"
    )
    now = datetime.now(UTC)
    error = {"message": "The step has no image.", "line": 7, "hint": "Add image: to the step."}
    await execute(statement, new_id(), project_id, SHA, "Train <b>deeper</b>", now, json.dumps(CONFIG), None, archive)
    await execute(
        statement,
        *(new_id(), project_id, BROKEN_SHA, "Break it", now - timedelta(days=3), None, json.dumps(error), None),
    )
    await execute("INSERT INTO gateway.repository_refs VALUES ($1, 'branch', 'main', $2)", project_id, SHA)


async def _worker(execute, environment_id: UUID) -> UUID:
    """A worker that is to take nothing more, so that what is queued stays so."""
    worker_id = new_id()
    await execute(
        "INSERT INTO scheduler.workers (id, environment_id, machine_id, token_hash, hostname, runtime, runtime_version,"
        " agent_version, slots, cpus, memory_bytes, gpus, gpu_list, addresses, drain_wanted)"
        " VALUES ($1, $2, 'm', 'h', 'worker-1', 'docker', '', '0.1.0', 4, 8, 17179869184, 0, '[]', '{}', true)",
        *(worker_id, environment_id),
    )
    await execute("INSERT INTO scheduler.worker_states VALUES ($1, now(), true, true, 3, 6, 8589934592, 0)", worker_id)
    return worker_id


@pytest.fixture
async def lab(ann: Browser, context: GatewayContext, relay: Relay, execute) -> Lab:
    """What a team has after some days, a hostile text in each place that people can fill."""
    async with context.db.transaction() as session:
        projects = Factory(context, session).projects
        project = await projects.create(ann.user, name="Digits <script>alert(1)</script>".replace("/", "|"))
        await projects.put_variable(ann.user, project.id, "REGION", "<i>north</i>", secret=False)
        await projects.put_variable(ann.user, project.id, "PASSWORD", "hunter2-secret", secret=True)
    body = EnvironmentCreate(slug="local", name="Local <u>machine</u>", description="This computer")
    environment = await context.scheduler.post("/internal/v1/environments", body=body, result=EnvironmentView)
    await _commits(execute, project.id)
    root = f"/p/ann/{project.slug}/"
    runs: dict[str, UUID] = {}
    for status in ("queued", "complete", "error", "stopped", "crashed", "started"):
        answer = await ann.send(
            f"{root}commit/{SHA}/run/", step="train", title="<img src=x>" if status == "error" else "", tags="nightly"
        )
        assert answer.status_code == 303, answer.text
        runs[status] = UUID(answer.headers["location"].split("/")[-2])
    ends = {"complete": "success", "error": "user_code", "stopped": "time_limit", "crashed": "worker_lost"}
    for status, reason in ends.items():
        await execute(
            "UPDATE scheduler.executions SET status = $2, end_reason = $3, end_message = '<b>because</b>',"
            " exit_code = CASE WHEN $2 = 'error' THEN 3 END, started_at = now() - interval '5 minutes',"
            " finished_at = now() - interval '1 minute' WHERE id = $1",
            *(runs[status], status, reason),
        )
        await execute(
            "INSERT INTO scheduler.transitions (execution_id, before, after, message, actor_id)"
            " VALUES ($1, 'started', $2, '<b>because</b>', $3)",
            *(runs[status], status, ann.user.id),
        )
    await execute(
        "UPDATE scheduler.executions SET status = 'started', started_at = now() - interval '40 seconds',"
        " status_detail = 'epoch <b>3</b>' WHERE id = $1",
        runs["started"],
    )
    await execute("DELETE FROM scheduler.queue WHERE execution_id <> $1", runs["queued"])
    relay.records = [
        {"_time": "t", "epoch": n, "accuracy": 1 - 0.8 / n, "loss": f"{2 / n:.4f}", "<b>odd</b>": n % 7, "note": "x"}
        for n in range(1, 40)
    ]
    await execute(
        "INSERT INTO logs.metadata_latest VALUES ($1, $2, $3, 39)",
        *(runs["complete"], new_id(), json.dumps(relay.records[-1])),
    )
    datum_id = new_id()
    key = f"data/{project.id}/{datum_id}/model.bin"
    await context.object_store.put(key, b"weights")
    await execute(
        "INSERT INTO gateway.datums (id, project_id, name, size, md5, sha1, sha256, key, output_execution_id, tags)"
        " VALUES ($1, $2, '<script>model</script>.bin', 7, 'm', 's', 's2', $3, $4, ARRAY['<b>best</b>'])",
        *(datum_id, project.id, key, runs["complete"]),
    )
    await _worker(execute, environment.id)
    return Lab(project.id, environment.id, root, runs, datum_id)
