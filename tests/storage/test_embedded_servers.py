"""The embedded servers against their real binaries: start, kill -9, start again, side by side."""

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from slipway_allinone.embedded import (
    EmbeddedPostgres,
    EmbeddedServerError,
    EmbeddedValkey,
    PostgresOptions,
    ValkeyOptions,
)
from slipway_allinone.embedded.account import socket_directory
from slipway_allinone.embedded.binaries import find_postgres
from slipway_allinone.embedded.keeping import keep_running
from slipway_kit.tasks import cancel_and_wait

MakePostgres = Callable[[Path, PostgresOptions], EmbeddedPostgres]
MakeValkey = Callable[[Path, ValkeyOptions], EmbeddedValkey]
QUICK = PostgresOptions(durable=False)


@pytest.fixture
async def postgres() -> AsyncIterator[MakePostgres]:
    """Makes servers and deletes their data afterwards, wherever it lies."""
    async with AsyncExitStack() as stack:

        def make(home: Path, options: PostgresOptions) -> EmbeddedPostgres:
            server = EmbeddedPostgres(home, options)
            stack.push_async_callback(server.destroy)
            return server

        yield make


@pytest.fixture
async def valkey() -> AsyncIterator[MakeValkey]:
    async with AsyncExitStack() as stack:

        def make(home: Path, options: ValkeyOptions) -> EmbeddedValkey:
            server = EmbeddedValkey(home, options)
            stack.push_async_callback(server.destroy)
            return server

        yield make


async def query(url: str, *statements: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        result: object = None
        for statement in statements:
            result = await connection.fetchval(statement, timeout=10)
        return result
    finally:
        await connection.close(timeout=10)


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("binaries", find_postgres(), ids=lambda one: f"{one.major}-{one.wheel_root is not None}")
async def test_postgres_keeps_committed_rows_over_stop_and_start(
    postgres: MakePostgres, tmp_path: Path, binaries: object
) -> None:
    options = PostgresOptions(bin_directory=binaries.directory)  # type: ignore[attr-defined]
    first = postgres(tmp_path, options)
    await first.start()
    await query(first.url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    assert await query(first.url, "SHOW fsync") == "on"
    assert await query(first.url, "SHOW max_connections") == "100"
    pid = first.pid
    await first.stop()
    assert first.pid is None
    assert not psutil.pid_exists(pid or 0)

    second = postgres(tmp_path, options)
    await second.start()
    assert await query(second.url, "SELECT n FROM kept") == 7


async def test_postgres_starts_again_after_kill_and_a_recycled_pid(postgres: MakePostgres, tmp_path: Path) -> None:
    first = postgres(tmp_path, PostgresOptions())
    await first.start()
    await query(first.url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    kill(first.pid)
    await first.stop()
    pid_file = first.data_directory / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    second = postgres(tmp_path, PostgresOptions())
    await second.start()
    assert await query(second.url, "SELECT n FROM kept") == 7


async def test_postgres_orphan_of_a_killed_platform_is_ended(postgres: MakePostgres, tmp_path: Path) -> None:
    orphan = postgres(tmp_path, QUICK)
    await orphan.start()
    old_pid = orphan.pid
    orphan._lock.release()  # what the kernel does when the platform is killed

    second = postgres(tmp_path, QUICK)
    await second.start()
    assert orphan.pid is None
    assert second.pid not in (None, old_pid)
    assert await query(second.url, "SELECT 1") == 1


async def test_postgres_is_private(postgres: MakePostgres, tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    before = stat.S_IMODE(tmp_path.parent.stat().st_mode)
    server = postgres(tmp_path, QUICK)
    await server.start()
    assert await query(server.url, "SHOW listen_addresses") == ""
    assert "scram-sha-256" in str(await query(server.url, "SELECT string_agg(auth_method, ' ') FROM pg_hba_file_rules"))
    assert "trust" not in str(await query(server.url, "SELECT string_agg(auth_method, ' ') FROM pg_hba_file_rules"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(server.url.replace(server.password_of("slipway_admin"), "wrong"), "SELECT 1")
    for key in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data_directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
    assert stat.S_IMODE(tmp_path.parent.stat().st_mode) == before
    if os.geteuid() == 0:
        assert psutil.Process(server.pid).username() == "slipway"


async def test_two_homes_side_by_side(postgres: MakePostgres, valkey: MakeValkey, tmp_path: Path) -> None:
    servers = [postgres(tmp_path / name, QUICK) for name in ("a", "b")]
    caches = [valkey(tmp_path / name, ValkeyOptions()) for name in ("a", "b")]
    for server in (*servers, *caches):
        await server.start()
    await query(servers[0].url, "CREATE TABLE only_here (n int)")
    assert await query(servers[1].url, "SELECT to_regclass('only_here')::text") is None
    assert caches[0].url != caches[1].url


async def test_one_home_serves_one_platform(postgres: MakePostgres, valkey: MakeValkey, tmp_path: Path) -> None:
    await postgres(tmp_path, QUICK).start()
    with pytest.raises(EmbeddedServerError, match="in use by another running Slipway"):
        await postgres(tmp_path, QUICK).start()
    await valkey(tmp_path, ValkeyOptions()).start()
    with pytest.raises(EmbeddedServerError, match="in use by another running Slipway"):
        await valkey(tmp_path, ValkeyOptions()).start()


async def test_a_failed_start_shows_the_log(postgres: MakePostgres, tmp_path: Path) -> None:
    server = postgres(tmp_path, PostgresOptions(durable=False, shared_buffers="nonsense"))
    with pytest.raises(EmbeddedServerError, match=r"(?s)ended while starting.*shared_buffers"):
        await server.start()
    assert server.pid is None


@pytest.mark.parametrize("binary", [None, pytest.param("redis-server", marks=pytest.mark.redis)])
async def test_valkey_keeps_its_data_over_stop_and_kill(valkey: MakeValkey, tmp_path: Path, binary: str | None) -> None:
    options = ValkeyOptions(binary=binary, maxmemory="64mb")
    server = valkey(tmp_path, options)
    await server.start()
    async with redis.asyncio.from_url(server.url) as client:
        await client.set("stopped", "1")
        assert (await client.config_get("maxmemory*"))["maxmemory-policy"] == "noeviction"
        assert (await client.config_get("appendfsync"))["appendfsync"] == "everysec"
    await server.stop()

    again = valkey(tmp_path, options)
    await again.start()
    async with redis.asyncio.from_url(again.url) as client:
        assert await client.get("stopped") == b"1"
        await client.set("killed", "2")
        await client.execute_command("WAITAOF", 1, 0, 5000) if binary is None else await client.bgrewriteaof()
    kill(again.pid)
    await again.stop()

    third = valkey(tmp_path, options)
    await third.start()
    async with redis.asyncio.from_url(third.url) as client:
        assert await client.get("stopped") == b"1"
        assert await client.get("killed") == b"2"


async def test_valkey_orphan_of_a_killed_platform_is_ended(valkey: MakeValkey, tmp_path: Path) -> None:
    orphan = valkey(tmp_path, ValkeyOptions())
    await orphan.start()
    orphan._lock.release()
    second = valkey(tmp_path, ValkeyOptions())
    await second.start()
    assert orphan.pid is None
    assert second.pid is not None


async def test_valkey_refuses_a_wrong_password(valkey: MakeValkey, tmp_path: Path, free_port: int) -> None:
    server = valkey(tmp_path, ValkeyOptions(port=free_port, durable=False))
    await server.start()
    async with redis.asyncio.from_url(server.url.replace(server.password, "wrong")) as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.ping()


def test_socket_paths_stay_short(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120)
    directory = socket_directory("postgres", home, ".s.PGSQL.5432")
    try:
        assert len(os.fsencode(directory / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        directory.rmdir()


async def test_killed_servers_come_back_by_themselves(
    postgres: MakePostgres, valkey: MakeValkey, tmp_path: Path
) -> None:
    """kill -9 again and again; backends that outlive their postmaster do not keep the next one from starting."""
    database, cache = postgres(tmp_path, PostgresOptions()), valkey(tmp_path, ValkeyOptions())
    await database.start()
    await cache.start()
    await query(database.url, "CREATE TABLE kept (n int)")
    busy = await asyncpg.connect(database.url, timeout=10)
    spinning = asyncio.create_task(busy.execute("SELECT sum(n) FROM generate_series(1, 1000000000) AS n"))
    keepers = [asyncio.create_task(keep_running(server)) for server in (database, cache)]
    try:
        for number in range(3):
            await query(database.url, f"INSERT INTO kept VALUES ({number})")
            for server in (database, cache):
                former = server.pid
                kill(former)
                async with asyncio.timeout(10):
                    while server.pid in (None, former) or not await _answers(server):
                        await asyncio.sleep(0.02)
        assert await query(database.url, "SELECT count(*) FROM kept") == 3
    finally:
        for keeper in keepers:
            await cancel_and_wait(keeper)
        spinning.cancel()
        with suppress(asyncio.CancelledError, asyncpg.PostgresError, OSError):
            await spinning
        busy.terminate()


async def _answers(server: EmbeddedPostgres | EmbeddedValkey) -> bool:
    try:
        if isinstance(server, EmbeddedPostgres):
            return await query(server.url, "SELECT 1") == 1
        client = redis.asyncio.Redis.from_url(server.url)
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()
    except (OSError, asyncpg.PostgresError, redis.exceptions.RedisError):
        return False
