"""A running scheduler on a real Postgres and Valkey, and small clients that speak for the gateway and for workers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from slipway_db import Database, MigrationSpec, bootstrap, migrate
from slipway_kit.auth import ServiceSigner
from slipway_kit.ids import new_id
from slipway_kit.keys import generate_keypair, load_private
from slipway_kit.logging import configure
from slipway_kit.service import Supervisor
from slipway_scheduler.context import SchedulerContext
from slipway_scheduler.database import MIGRATIONS
from slipway_scheduler.settings import LeaseSettings, SchedulerSettings
from slipway_scheduler.spec import SPEC
from slipway_schemas.executions import CodeRef, ExecutionSpec, Resources
from slipway_schemas.workers import Capacity
from slipway_testing.roles import ROLE_PASSWORDS, service_url
from slipway_testing.servers import PostgresServer

OTHERS = (MigrationSpec("gateway", "gateway", ""), MigrationSpec("logs", "logs", ""))
TEMPLATE = "slipway_scheduler_template"

_OTHERS_VIEWS = (
    "CREATE TABLE gateway.events (position int, id uuid, name text, key text, actor int, occurred_at date, payload json)",  # noqa: E501
    "CREATE VIEW gateway_pub.event_v1 AS SELECT * FROM gateway.events",
    "GRANT SELECT ON gateway_pub.event_v1 TO slipway_scheduler",
    *(
        statement
        for schema in ("gateway", "logs")
        for statement in (
            f"CREATE VIEW {schema}_pub.cursor_v1 AS SELECT '' AS consumer, '' AS publisher, 0 AS position",
            f"GRANT SELECT ON {schema}_pub.cursor_v1 TO slipway_scheduler",
        )
    ),
)


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Log as in production: rendering a traceback for people takes seconds, in which the scheduler stands still."""
    configure("test", "WARNING", json=True)


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    async def make() -> None:
        url = await postgres_server.create_database(TEMPLATE)
        await bootstrap(url, [MIGRATIONS, *OTHERS], ROLE_PASSWORDS)
        await migrate(lambda service: service_url(url, service), [MIGRATIONS])
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            for statement in _OTHERS_VIEWS:
                await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture
def scheduler_url(database_url: str) -> str:
    return service_url(database_url, "scheduler")


@pytest.fixture
async def db(scheduler_url: str) -> AsyncIterator[Database]:
    database = Database(scheduler_url, schema="scheduler", pool_size=2)
    yield database
    await database.close()


@dataclass
class Machine:
    """A worker as a test drives it: it says what it is told to say."""

    http: httpx.AsyncClient
    id: UUID
    token: str
    capacity: Capacity
    attempts: dict[UUID, str] = field(default_factory=dict)
    seq: dict[UUID, int] = field(default_factory=dict)
    stop_levels: dict[UUID, int] = field(default_factory=dict)
    condition: dict[str, Any] = field(default_factory=dict)
    """What every sync says of the machine: its disk, why it takes nothing."""

    async def sync(
        self, *facts: dict[str, Any], wait: float = 0, free: int | None = None, lost: Sequence[str] = (), **more: Any
    ) -> dict[str, Any]:
        left = self.capacity.slots - len(self.attempts) if free is None else free
        body = {
            "free": self.capacity.model_copy(update={"slots": left}).model_dump(),
            "attempts": [
                {"attempt_id": str(one), "phase": phase, "stop_level": self.stop_levels.get(one, 0)}
                for one, phase in self.attempts.items()
            ],
            "facts": list(facts),
            "lost": list(lost),
            "wait_seconds": wait,
            **self.condition,
            **more,
        }
        answer = await self.http.post(
            "/workers/v1/sync", json=body, headers={"Authorization": f"Bearer {self.token}"}, timeout=30
        )
        answer.raise_for_status()
        result: dict[str, Any] = answer.json()
        return result

    def fact(self, attempt_id: UUID | str, kind: str, **more: Any) -> dict[str, Any]:
        attempt = UUID(str(attempt_id))
        self.seq[attempt] = self.seq.get(attempt, 0) + 1
        at = datetime.now(UTC).isoformat()
        return {"kind": kind, "attempt_id": str(attempt), "seq": self.seq[attempt], "at": at, **more}

    def exited(self, attempt_id: UUID | str, code: int = 0, reason: str = "success", **more: Any) -> dict[str, Any]:
        return self.fact(attempt_id, "exited", code=code, reason=reason, **more)

    def failed(self, attempt_id: UUID | str, reason: str, *, retryable: bool, **more: Any) -> dict[str, Any]:
        return self.fact(attempt_id, "failed", reason=reason, message="it failed", retryable=retryable, **more)

    async def assigned(self, wait: float = 5) -> dict[str, Any]:
        """Hold a sync until an assignment comes."""
        answer = await self.sync(wait=wait)
        assert answer["assignments"], answer
        assignment: dict[str, Any] = answer["assignments"][0]
        return assignment

    async def start(self, *, user_code: bool = True) -> tuple[UUID, UUID]:
        """Take the next assignment, up to the user's code; returns (execution, attempt)."""
        assignment = await self.assigned()
        attempt = UUID(assignment["attempt_id"])
        self.attempts[attempt] = "preparing"
        facts = [self.fact(attempt, "accepted")]
        if user_code:
            facts.append(self.fact(attempt, "user_code_started"))
        await self.sync(*facts)
        return UUID(assignment["document"]["execution_id"]), attempt

    async def finish(self, attempt: UUID, fact: dict[str, Any]) -> dict[str, Any]:
        self.attempts.pop(attempt, None)
        return await self.sync(fact)


@dataclass
class Running:
    """A running scheduler and the gateway's voice."""

    context: SchedulerContext
    internal: httpx.AsyncClient
    workers: httpx.AsyncClient
    db: Database

    async def environment(self, slug: str = "local", **more: Any) -> UUID:
        answer = await self.internal.post("/internal/v1/environments", json={"slug": slug, "name": slug, **more})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def machine(self, environment: UUID, *, name: str = "m1", slots: int = 2, **more: Any) -> Machine:
        created = await self.internal.post(f"/internal/v1/environments/{environment}/group-tokens")
        capacity = Capacity(**{"slots": slots, "cpus": 8, "memory_bytes": 8 * 1024**3, **more})
        body = {
            "machine_id": name,
            "hostname": name,
            "agent_version": "1",
            "runtime": "fake",
            "capacity": capacity.model_dump(),
        }
        headers = {"Authorization": f"Bearer {created.json()['token']}"}
        answer = await self.workers.post("/workers/v1/register", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        joined = answer.json()
        return Machine(self.workers, UUID(joined["worker_id"]), joined["worker_token"], capacity)

    def draft(self, environment: UUID, **more: Any) -> dict[str, Any]:
        archive = more.pop("archive", "code/ab/abcd.tar.zst")
        spec = ExecutionSpec(
            code=CodeRef(identifier=more.pop("commit", "c" * 40), archive_key=archive),
            step="train",
            image="python:3.12",
            command=("true",),
            interpolated_command="true",
            resources=Resources(**more.pop("resources", {})),
            autorestart=more.pop("autorestart", False),
        )
        draft = {
            "id": str(new_id()),
            "project_id": str(uuid4()),
            "project_name": "me/project",
            "owner_id": 1,
            "creator_id": 1,
            "creator_name": "me",
            "environment_id": str(environment),
            "spec": spec.model_dump(mode="json"),
        }
        return draft | more

    async def create(self, environment: UUID, **more: Any) -> UUID:
        answer = await self.internal.post("/internal/v1/executions", json=self.draft(environment, **more))
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def stop(self, execution: UUID, **body: Any) -> dict[str, Any]:
        answer = await self.internal.post(f"/internal/v1/executions/{execution}/stop", json=body)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def waiting(self, execution: UUID) -> dict[str, Any]:
        answer = await self.internal.get(f"/internal/v1/executions/{execution}/waiting")
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def read(self, execution: UUID) -> dict[str, Any]:
        async with self.db.read() as session:
            statement = text("SELECT * FROM scheduler_pub.execution_v1 WHERE id = :id")
            return dict((await session.execute(statement, {"id": execution})).mappings().one())

    async def steps(self, execution: UUID) -> list[str]:
        """The statuses that an execution went through."""
        async with self.db.read() as session:
            statement = text("SELECT after FROM transitions WHERE execution_id = :id ORDER BY position")
            return list((await session.scalars(statement, {"id": execution})).all())

    async def until(self, execution: UUID, status: str, seconds: float = 6) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while (row := await self.read(execution))["status"] != status:
                await asyncio.sleep(0.02)
        return row


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(scheduler_url: str, valkey_url: str, tmp_path: Path, db: Database) -> Start:
    """Start schedulers on the test's database; may be used several times, one after the other."""
    trusted = tmp_path / "trusted"
    generate_keypair(tmp_path / "scheduler.pem", trusted / "scheduler.pub.pem")
    generate_keypair(tmp_path / "gateway.pem", trusted / "gateway.pub.pem")
    (tmp_path / "pepper").write_bytes(b"p" * 32)

    @asynccontextmanager
    async def run(**leases: float) -> AsyncIterator[Running]:
        settings = SchedulerSettings.model_validate(
            {
                "database": {"url": scheduler_url},
                "redis": {"url": valkey_url},
                "http": {"workers_port": 0, "internal_port": 0},
                "keys": {"private_key_file": tmp_path / "scheduler.pem", "trusted_keys_dir": trusted},
                "token_pepper_file": tmp_path / "pepper",
                "leases": LeaseSettings(**leases).model_dump(),
            }
        )
        bearer = ServiceSigner("gateway", load_private(tmp_path / "gateway.pem")).token("scheduler")
        headers = {"Authorization": f"Bearer {bearer}", "X-Slipway-Actor": "7"}
        async with Supervisor([(SPEC, settings)]).running() as supervisor:
            ports = supervisor.ports["scheduler"]
            context: SchedulerContext = supervisor.contexts["scheduler"]
            await context.doorbell.wait_connected(5)
            async with (
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['internal']}", headers=headers) as internal,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['workers']}") as workers,
            ):
                yield Running(context, internal, workers, db)

    return run


@pytest.fixture
async def scheduler(start: Start) -> AsyncIterator[Running]:
    async with start() as running:
        yield running
