"""A log-relay on real servers, the published views that it reads as plain tables, and a worker's hand to feed it."""

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import google_crc32c
import httpx
import pytest
import redis.asyncio
from sqlalchemy import make_url

from slipway_allinone.embedded import EmbeddedValkey, ValkeyOptions
from slipway_db import MigrationSpec, bootstrap, migrate
from slipway_kit.auth import AttemptSigner, ServiceSigner, token_hash
from slipway_kit.keys import generate_keypair, load_private
from slipway_logs.context import Factory, LogsContext, open_context
from slipway_logs.settings import LogsSettings
from slipway_logs.sources import LogSource
from slipway_logs.spec import MIGRATIONS, SPEC, build_apps
from slipway_schemas.logs import FrameFlag, FrameHeader, LogsAnswer, LogStream, split_lines
from slipway_schemas.tokens import AttemptClaims
from slipway_testing.roles import ROLE_PASSWORDS

PASSWORD = ROLE_PASSWORDS["logs"]
PEPPER = "0123456789abcdef0123456789abcdef"
T0 = 1_700_000_000_000_000

_NEIGHBOURS = [MigrationSpec(name, name, "-") for name in ("scheduler", "gateway", "builder")]
_VIEWS = """
CREATE TABLE gateway_pub.token_v1 (token_hash text, user_id int, username text, is_admin bool,
    expires_at timestamptz, revoked_at timestamptz);
CREATE TABLE gateway_pub.project_access_v1 (user_id int, project_id uuid, can_write bool);
CREATE TABLE scheduler_pub.execution_v1 (id uuid PRIMARY KEY, project_id uuid, status text, attempt_id uuid,
    deleted_at timestamptz);
CREATE TABLE scheduler_pub.attempt_v1 (id uuid PRIMARY KEY, execution_id uuid, number int, superseded bool,
    ended_at timestamptz, total_lines bigint, total_outputs int, total_metadata int);
CREATE TABLE scheduler_pub.transition_v1 (execution_id uuid, position bigint, before text, after text, reason text,
    message text, at timestamptz, actor_id int, attempt_id uuid);
CREATE TABLE scheduler_pub.event_v1 (position bigint, id uuid, name text, key text, actor int,
    occurred_at timestamptz, payload jsonb);
CREATE TABLE builder_pub.endpoint_access_v1 (id uuid PRIMARY KEY, project_id uuid, deleted_at timestamptz);
GRANT SELECT ON ALL TABLES IN SCHEMA gateway_pub, scheduler_pub, builder_pub TO slipway_logs;
"""


def logs_url_of(admin_url: str) -> str:
    url = make_url(admin_url).set(username="slipway_logs", password=PASSWORD)
    return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template_database(postgres_server: Any) -> str:
    """A migrated schema `logs` beside the views of its neighbours."""
    name = "slipway_logs_template"

    async def make() -> None:
        if await postgres_server.has_database(name):
            return  # several folders use this fixture, and each has its own instance of it
        admin_url = await postgres_server.create_database(name)
        services = [MIGRATIONS, *_NEIGHBOURS]
        await bootstrap(admin_url, services, {spec.service: ROLE_PASSWORDS[spec.service] for spec in services})
        await migrate(lambda _: logs_url_of(admin_url), [MIGRATIONS])
        connection = await asyncpg.connect(admin_url)
        await connection.execute(_VIEWS)
        await connection.close()

    asyncio.run(make())
    return name


@pytest.fixture(scope="session")
def redis_server(server_home: Path) -> Iterator[str | None]:
    """A Redis 7.0 where the machine has one."""
    if shutil.which("redis-server") is None:
        yield None
        return
    server = EmbeddedValkey(
        server_home / f"redis-{uuid4().hex[:8]}", ValkeyOptions(durable=False, binary="redis-server")
    )
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.destroy())


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.redis)])
async def any_redis_url(request: pytest.FixtureRequest, valkey_url: str, redis_server: str | None) -> str:
    """Both servers, one after the other."""
    if request.param == "valkey":
        return valkey_url
    if redis_server is None:
        raise RuntimeError("the group redis lets this run only where redis-server is installed")
    async with redis.asyncio.from_url(redis_server) as client:
        await client.flushall()
    return redis_server


@dataclass
class Attempt:
    """A try of an execution as its worker sees it: what it printed, cut into lines."""

    execution_id: UUID
    number: int = 1
    id: UUID = field(default_factory=uuid4)
    lines: list[tuple[LogStream, bytes]] = field(default_factory=list)

    def claims(self) -> AttemptClaims:
        return AttemptClaims(
            attempt_id=self.id, execution_id=self.execution_id, environment_id=uuid4(), number=self.number
        )

    def source(self) -> LogSource:
        return LogSource(self.id, self.execution_id, self.number)

    def print(self, *texts: str | bytes, stream: LogStream = LogStream.STDOUT) -> None:
        for text in texts:
            self.lines.append((stream, text if isinstance(text, bytes) else f"{text}\n".encode()))

    def frames(self, first: int = 0, end: int | None = None, *, size: int = 100, time_us: int = T0) -> list[bytes]:
        """Frames of lines `first` to `end`, cut where the stream changes and every `size` lines."""
        end = len(self.lines) if end is None else end
        made = []
        while first < end:
            stream = self.lines[first][0]
            stop = first
            while stop < end and self.lines[stop][0] == stream and stop - first < size:
                stop += 1
            made.append(
                frame([line for _, line in self.lines[first:stop]], first, stream=stream, time_us=time_us + first)
            )
            first = stop
        return made


def frame(
    lines: Sequence[bytes],
    first: int,
    *,
    stream: int = LogStream.STDOUT,
    flags: int = 0,
    time_us: int = T0,
    count: int | None = None,
) -> bytes:
    payload = b"".join(lines)
    header = FrameHeader(
        stream=stream,
        flags=flags,
        lines=len(split_lines(payload)) if count is None else count,
        first=first,
        offset=0,
        time_us=time_us,
        length=len(payload),
        crc32c=google_crc32c.value(payload),
    )
    return header.pack() + payload


def end_frame(first: int) -> bytes:
    return frame([], first, flags=FrameFlag.END)


def metadata_frame(records: Sequence[tuple[int, dict[str, Any]]], first: int) -> bytes:
    return frame([json.dumps(records).encode()], first, stream=LogStream.METADATA, count=len(records))


class World:
    """What the scheduler and the gateway publish, and the keys of all."""

    def __init__(self, admin: asyncpg.Connection, home: Path) -> None:
        self.admin = admin
        self.home = home
        self.keys = home / "keys"
        self.trusted = home / "trusted"
        self.keys.mkdir()
        self.trusted.mkdir()
        for name in ("scheduler", "gateway", "builder", "logs"):
            generate_keypair(self.keys / name, self.trusted / f"{name}.pub.pem")
        (home / "pepper").write_text(PEPPER)
        self.attempt_signer = AttemptSigner(load_private(self.keys / "scheduler"))
        self.gateway = ServiceSigner("gateway", load_private(self.keys / "gateway"))
        self.builder = ServiceSigner("builder", load_private(self.keys / "builder"))
        self.project_id = uuid4()

    async def add_execution(self, status: str = "started") -> UUID:
        execution_id = uuid4()
        await self.admin.execute(
            "INSERT INTO scheduler_pub.execution_v1 VALUES ($1, $2, $3)", execution_id, self.project_id, status
        )
        return execution_id

    async def set_status(self, execution_id: UUID, status: str) -> None:
        await self.admin.execute(
            "UPDATE scheduler_pub.execution_v1 SET status = $2 WHERE id = $1", execution_id, status
        )

    async def add_attempt(self, execution_id: UUID | None = None, number: int = 1) -> Attempt:
        attempt = Attempt(execution_id or await self.add_execution(), number)
        await self.admin.execute(
            "INSERT INTO scheduler_pub.attempt_v1 VALUES ($1, $2, $3, false)",
            attempt.id,
            attempt.execution_id,
            number,
        )
        return attempt

    async def end(self, attempt: Attempt, lines: int | None, metadata: int | None = 0) -> None:
        await self.admin.execute(
            "UPDATE scheduler_pub.attempt_v1 SET ended_at = now(), total_lines = $2, total_metadata = $3 WHERE id = $1",
            attempt.id,
            lines,
            metadata,
        )

    async def add_endpoint(self) -> UUID:
        endpoint_id = uuid4()
        await self.admin.execute(
            "INSERT INTO builder_pub.endpoint_access_v1 VALUES ($1, $2)", endpoint_id, self.project_id
        )
        return endpoint_id

    async def supersede(self, attempt: Attempt) -> None:
        await self.admin.execute(
            "UPDATE scheduler_pub.attempt_v1 SET superseded = true, ended_at = now() WHERE id = $1", attempt.id
        )

    async def add_transition(
        self, execution_id: UUID, position: int, before: str | None, after: str, at_us: int
    ) -> None:
        await self.admin.execute(
            "INSERT INTO scheduler_pub.transition_v1 VALUES ($1, $2, $3, $4, NULL, '', $5)",
            execution_id,
            position,
            before,
            after,
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us),
        )

    async def add_user(
        self, token: str, *, user_id: int = 1, sees: bool = True, expires: datetime | None = None
    ) -> str:
        await self.admin.execute(
            "INSERT INTO gateway_pub.token_v1 VALUES ($1, $2, 'user', false, $3, NULL)",
            token_hash(token, PEPPER),
            user_id,
            expires,
        )
        if sees:
            await self.admin.execute(
                "INSERT INTO gateway_pub.project_access_v1 VALUES ($1, $2, true)", user_id, self.project_id
            )
        return token


class Relay:
    """One relay without its background tasks: what they do is called by hand."""

    def __init__(
        self, context: LogsContext, world: World, client: httpx.AsyncClient, internal: httpx.AsyncClient
    ) -> None:
        self.context = context
        self.factory = Factory(context)
        self.archive = self.factory.archive()
        self.world = world
        self._client = client
        self._internal = internal

    async def post(self, attempt: Attempt, *frames: bytes, token: str | None = None) -> httpx.Response:
        token = token or self.world.attempt_signer.sign(attempt.claims())
        return await self._client.post(
            "/workers/v1/logs", content=b"".join(frames), headers={"Authorization": f"Bearer {token}"}
        )

    async def post_usage(self, attempt: Attempt, samples: Sequence[Mapping[str, Any]]) -> httpx.Response:
        token = self.world.attempt_signer.sign(attempt.claims())
        return await self._client.post(
            "/workers/v1/usage", json={"samples": samples}, headers={"Authorization": f"Bearer {token}"}
        )

    async def send(self, attempt: Attempt, *frames: bytes) -> LogsAnswer:
        answer = await self.post(attempt, *frames)
        assert answer.status_code == 200, answer.text
        return LogsAnswer.model_validate_json(answer.content)

    async def get(self, execution_id: UUID, what: str, *, signer: ServiceSigner | None = None) -> httpx.Response:
        token = (signer or self.world.gateway).token("logs")
        return await self._internal.get(
            f"/internal/v1/executions/{execution_id}/{what}", headers={"Authorization": f"Bearer {token}"}
        )

    async def write(
        self, endpoint_id: UUID, replica: str, day: str, *frames: bytes, signer: ServiceSigner | None = None
    ) -> httpx.Response:
        """What the builder sends of a replica."""
        token = (signer or self.world.builder).token("logs")
        return await self._internal.post(
            f"/internal/v1/endpoints/{endpoint_id}/replicas/{replica}/log/{day}",
            content=b"".join(frames),
            headers={"Authorization": f"Bearer {token}"},
        )

    async def of_endpoint(self, endpoint_id: UUID, what: str) -> Any:
        token = self.world.gateway.token("logs")
        answer = await self._internal.get(
            f"/internal/v1/endpoints/{endpoint_id}/{what}", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def events(self, execution_id: UUID, query: str = "") -> dict[str, Any]:
        answer = await self.get(execution_id, f"events{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def flush_all(self) -> None:
        """Make everything durable that is in the tail, whatever its age."""
        archive = self.factory.archive()
        archive._flush_after_seconds = -1e6
        for _ in range(100):
            if not await archive.flush_due():
                return
        raise AssertionError("the archive never came to an end")


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved


def relay_settings(world: World, database_url: str, redis_url: str, **more: Any) -> LogsSettings:
    return LogsSettings.model_validate(
        {
            "database": {"url": logs_url_of(database_url), "pool_size": 4},
            "redis": {"url": redis_url},
            "keys": {"private_key_file": world.keys / "logs", "trusted_keys_dir": world.trusted},
            "store": {
                "type": "local",
                "path": world.home / "store",
                "signing_key": "s" * 40,
                "public_url": "http://127.0.0.1:1",
            },
            "token_pepper_file": world.home / "pepper",
            **more,
        }
    )


@asynccontextmanager
async def open_world(database_url: str, home: Path) -> AsyncIterator[World]:
    admin = await asyncpg.connect(database_url)
    try:
        yield World(admin, home)
    finally:
        await admin.close()


@asynccontextmanager
async def open_relay(world: World, settings: LogsSettings, clock: Hours | None = None) -> AsyncIterator[Relay]:
    async with open_context(settings) as context:
        context = dataclasses.replace(context, clock=clock or Hours())
        apps = build_apps(context)
        commits = [
            asyncio.create_task(context.metadata_writer.run()),
            asyncio.create_task(context.usage_writer.run()),
        ]
        workers = httpx.ASGITransport(apps.workers, raise_app_exceptions=False)
        internal = httpx.ASGITransport(apps.internal, raise_app_exceptions=False)
        async with (
            httpx.AsyncClient(transport=workers, base_url="http://relay") as client,
            httpx.AsyncClient(transport=internal, base_url="http://relay") as internal_client,
        ):
            try:
                yield Relay(context, world, client, internal_client)
            finally:
                for commit in commits:
                    commit.cancel()
                await asyncio.gather(*commits, return_exceptions=True)


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def relay(world: World, database_url: str, valkey_url: str) -> AsyncIterator[Relay]:
    async with open_relay(world, relay_settings(world, database_url, valkey_url)) as made:
        yield made


@pytest.fixture
async def any_relay(world: World, database_url: str, any_redis_url: str) -> AsyncIterator[Relay]:
    async with open_relay(world, relay_settings(world, database_url, any_redis_url)) as made:
        yield made


@pytest.fixture
async def served(world: World, database_url: str, valkey_url: str) -> AsyncIterator["Served"]:
    from slipway_kit.service import Supervisor

    ports = {"public_port": 0, "workers_port": 0, "internal_port": 0}
    settings = relay_settings(world, database_url, valkey_url, http=ports)
    supervisor = Supervisor([(SPEC, settings)])
    async with supervisor.running(), Served(world, supervisor.ports["logs"]) as made:
        yield made


class Served:
    """A relay as it runs: real servers with all background tasks."""

    def __init__(self, world: World, ports: dict[str, int]) -> None:
        self.world = world
        self.ports = ports
        self.http = httpx.AsyncClient(timeout=20)

    async def __aenter__(self) -> "Served":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    def url(self, app: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[app]}{path}"

    async def send(self, attempt: Attempt, *frames: bytes) -> LogsAnswer:
        token = self.world.attempt_signer.sign(attempt.claims())
        answer = await self.http.post(
            self.url("workers", "/workers/v1/logs"),
            content=b"".join(frames),
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200, answer.text
        return LogsAnswer.model_validate_json(answer.content)

    async def until_durable(self, attempt: Attempt, lines: int, seconds: float) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while (await self.send(attempt)).durable < lines:
            assert loop.time() - started < seconds, f"not durable after {seconds} s"
            await asyncio.sleep(0.05)
        return loop.time() - started

    def stream(self, execution_id: UUID, token: str, query: str = "", **headers: str) -> Any:
        return self.http.stream(
            "GET",
            self.url("public", f"/api/v1/streams/executions/{execution_id}/log/{query}"),
            headers={"Authorization": f"Token {token}", **headers},
        )


async def sse_events(response: httpx.Response) -> AsyncIterator[tuple[str, str, Any]]:
    """`(id, event, data)` of each event."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
            fields = {}
