"""Fixtures for the real Postgres and Valkey that tests run against: one of each per test process.

The clients are imported where they are used: the plugin is loaded by every run, also by those of no server.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from slipway_allinone.embedded import EmbeddedPostgres, EmbeddedValkey, PostgresOptions, ValkeyOptions

TEMPLATE_DATABASE = "slipway_template"
STATEMENT_SECONDS = 30.0


class PostgresServer:
    """A throw-away Postgres and the databases made on it."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    @property
    def url(self) -> str:
        """Administrator's URL of the server's own database; tests use `database_url`."""
        return self._server.url

    def url_of(self, database: str) -> str:
        """Administrator's URL of one database."""
        parts = urlsplit(self._server.url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    async def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database as a copy of `template` and give its URL. Nobody may be connected to the template."""
        await self._execute(f'CREATE DATABASE "{_plain(name)}" TEMPLATE "{_plain(template)}" STRATEGY file_copy')
        return self.url_of(name)

    async def drop_database(self, name: str) -> None:
        """Drop a database, ending the connections that are still open to it."""
        await self._execute(f'DROP DATABASE IF EXISTS "{_plain(name)}" WITH (FORCE)')

    async def has_database(self, name: str) -> bool:
        """True when the database exists."""
        import asyncpg

        connection = await asyncpg.connect(self.url, timeout=STATEMENT_SECONDS)
        try:
            return bool(
                await connection.fetchval(
                    "SELECT true FROM pg_database WHERE datname = $1", name, timeout=STATEMENT_SECONDS
                )
            )
        finally:
            await connection.close(timeout=STATEMENT_SECONDS)

    async def _execute(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.url, timeout=STATEMENT_SECONDS)
        try:
            await connection.execute(statement, timeout=STATEMENT_SECONDS)
        finally:
            await connection.close(timeout=STATEMENT_SECONDS)


def _plain(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise ValueError(f"{name!r} is no plain database name")
    return name


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    """Home directory of this test process's servers."""
    home = Path(tempfile.mkdtemp(prefix="slipway-test-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_home: Path) -> Iterator[PostgresServer]:
    """Postgres without fsync, started once per test process (per worker with xdist)."""
    server = EmbeddedPostgres(server_home, PostgresOptions(durable=False, max_connections=200))
    asyncio.run(server.start())
    try:
        yield PostgresServer(server)
    finally:
        asyncio.run(server.destroy())


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """Name of the database that `database_url` copies.

    Override this fixture in a conftest.py to migrate once and let every test begin with the tables:
    create a database on `postgres_server`, fill it, close every connection, return its name.
    """
    asyncio.run(postgres_server.create_database(TEMPLATE_DATABASE))
    return TEMPLATE_DATABASE


@pytest.fixture
async def database_url(postgres_server: PostgresServer, template_database: str) -> AsyncIterator[str]:
    """Administrator's `postgresql://` URL of a database that only this test uses."""
    name = f"test_{uuid4().hex}"
    url = await postgres_server.create_database(name, template_database)
    yield url
    await postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def valkey_server(server_home: Path) -> Iterator[EmbeddedValkey]:
    """Valkey in memory, started once per test process, on a unix socket."""
    server = EmbeddedValkey(server_home, ValkeyOptions(durable=False))
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.destroy())


@pytest.fixture
async def valkey_url(valkey_server: EmbeddedValkey) -> str:
    """URL of an empty Valkey; emptied again before the next test that asks."""
    import redis.asyncio

    async with redis.asyncio.from_url(valkey_server.url) as client:
        await client.flushall()
    return valkey_server.url
