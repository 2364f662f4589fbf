"""A gateway in process on a real Postgres and Valkey. The views of scheduler and builder are stand-ins: tables."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from slipway_db import bootstrap, migrate, role_of
from slipway_gateway.app import public_app
from slipway_gateway.context import Factory, GatewayContext, open_context
from slipway_gateway.database import MIGRATIONS
from slipway_gateway.identity.domain import TokenKind
from slipway_gateway.settings import EgressSettings, GatewaySettings, GitSettings
from slipway_kit.keys import generate_keypair
from slipway_kit.logging import configure as configure_logging
from slipway_kit.settings import DatabaseSettings, KeySettings, NeighbourSettings, RedisSettings
from slipway_storage import LocalStoreConfig
from slipway_testing.neighbours.builder import VIEWS as BUILDER_VIEWS
from slipway_testing.roles import ROLE_PASSWORDS

configure_logging("gateway", "WARNING", True)

PASSWORD = ROLE_PASSWORDS["gateway"]
ORIGIN = "http://slipway.test"

SCHEDULER_VIEWS = """
CREATE SCHEMA scheduler_pub;
CREATE TABLE scheduler_pub.environment_v1 (
    id uuid, slug text, name text, description text, owner_id int, enabled bool, provider text, gpu_spec text,
    per_hour_price_usd numeric, per_user_queue_quota int, settings jsonb, unfinished_job_count bigint,
    deleted_at timestamptz);
CREATE TABLE scheduler_pub.execution_v1 (
    id uuid, project_id uuid, counter int, status text, created_at timestamptz, deleted_at timestamptz);
GRANT USAGE ON SCHEMA scheduler_pub TO slipway_gateway;
GRANT SELECT ON ALL TABLES IN SCHEMA scheduler_pub TO slipway_gateway;
"""


def as_gateway(admin_url: str) -> str:
    """The URL of the same database for the gateway's role."""
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role_of('gateway')}:{PASSWORD}@{host}"))


async def _prepare(url: str) -> None:
    await bootstrap(url, [MIGRATIONS], {"gateway": PASSWORD})
    await migrate(lambda _service: as_gateway(url), [MIGRATIONS])
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEDULER_VIEWS)
    await connection.execute(BUILDER_VIEWS)
    await connection.close()


@pytest.fixture(scope="session")
def template_database(postgres_server) -> str:
    name = "gateway_template"
    url = asyncio.run(postgres_server.create_database(name))
    asyncio.run(_prepare(url))
    return name


@pytest.fixture
def settings(database_url: str, valkey_url: str, tmp_path: Path) -> GatewaySettings:
    for service in ("gateway", "scheduler"):
        generate_keypair(tmp_path / f"{service}.pem", tmp_path / "trusted" / f"{service}.pub.pem")
    (tmp_path / "kek").write_bytes(secrets.token_bytes(32))
    (tmp_path / "pepper").write_text(secrets.token_hex(32))
    repositories = tmp_path / "repositories"
    repositories.mkdir()
    return GatewaySettings(
        database=DatabaseSettings(url=SecretStr(as_gateway(database_url)), pool_size=4),
        redis=RedisSettings(url=SecretStr(valkey_url)),
        keys=KeySettings(private_key_file=tmp_path / "gateway.pem", trusted_keys_dir=tmp_path / "trusted"),
        neighbours=NeighbourSettings(scheduler="http://127.0.0.1:1", logs="http://127.0.0.1:1"),
        public_url=ORIGIN,
        secret_key_file=tmp_path / "kek",
        token_pepper_file=tmp_path / "pepper",
        store=LocalStoreConfig(path=tmp_path / "store", signing_key=SecretStr("s" * 32), public_url=ORIGIN),
        git=GitSettings(cache_dir=tmp_path / "git", allow_local_paths=(repositories,)),
        egress=EgressSettings(allow_control_plane=("127.0.0.0/8",)),
        upload_dir=tmp_path / "uploads",
    )


@pytest.fixture
async def context(settings: GatewaySettings) -> AsyncIterator[GatewayContext]:
    async with open_context(settings) as opened:
        yield opened


@pytest.fixture
async def anonymous(context: GatewayContext) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=public_app(context))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


class People:
    """Makes users and clients that act for them."""

    def __init__(self, context: GatewayContext, transport: httpx.AsyncBaseTransport) -> None:
        self._context = context
        self._transport = transport

    async def client(self, name: str, *, password: str | None = None) -> httpx.AsyncClient:
        """A new user's client, with a token."""
        async with self._context.db.transaction() as session:
            services = Factory(self._context, session)
            user = await services.accounts.add_user(name, password=password, email=f"{name}@slipway.test")
            token = await services.tokens.issue(user.id, TokenKind.API, name="test", expires_at=None)
        headers = {"Authorization": f"Token {token.value}"}
        return httpx.AsyncClient(transport=self._transport, base_url=ORIGIN, headers=headers)

    async def organization(self, name: str, *members: str) -> None:
        """A new organization with members."""
        async with self._context.db.transaction() as session:
            services = Factory(self._context, session)
            await services.accounts.add_organization(name)
            for member in members:
                await services.accounts.add_member(name, member)


@pytest.fixture
def people(context: GatewayContext) -> People:
    return People(context, httpx.ASGITransport(app=public_app(context)))


@pytest.fixture
async def me(people: People) -> AsyncIterator[httpx.AsyncClient]:
    async with await people.client("me", password="correct horse") as client:
        yield client


@pytest.fixture
async def other(people: People) -> AsyncIterator[httpx.AsyncClient]:
    async with await people.client("other") as client:
        yield client


@pytest.fixture
async def project(me: httpx.AsyncClient) -> dict:
    answer = await me.post("/api/v0/projects/", data={"name": "lab", "description": "desc"})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def execute(database_url: str):
    """Runs a statement as the database's administrator."""
    connection = await asyncpg.connect(database_url)
    yield connection.execute
    await connection.close()


@pytest.fixture
async def environment(execute) -> dict:
    """An environment that everybody may use."""
    row = {"id": "0190a0a0-0000-7000-8000-000000000001", "slug": "local"}
    await execute(
        "INSERT INTO scheduler_pub.environment_v1 VALUES"
        " ($1, $2, 'Local', '', NULL, true, 'static', '', 0, 0, '{}', 0, NULL)",
        row["id"],
        row["slug"],
    )
    return row
