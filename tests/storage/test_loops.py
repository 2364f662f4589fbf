import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, TextClause, Uuid, text, true

from slipway_db import Database, Doorbell, LoopRunner, leases, notify
from slipway_kit.ids import new_id


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, schema="public", pool_size=4)
    async with database.transaction() as session:
        await session.execute(
            text("CREATE TABLE work (id uuid PRIMARY KEY, lease_token uuid, leased_until timestamptz)")
        )
    yield database
    await database.close()


@contextlib.asynccontextmanager
async def running(*runs: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in runs]  # type: ignore[arg-type]
        yield
        for task in tasks:
            task.cancel()


async def add(db: Database, *, ring: str | None = None) -> None:
    async with db.transaction() as session:
        await session.execute(text("INSERT INTO work (id) VALUES (:id)"), {"id": new_id()})
        if ring:
            await notify(session, ring)


class Drain:
    """Deletes one row per run; fails as often as told."""

    def __init__(self, db: Database, name: str = "drain", channel: str | None = None, failures: int = 0) -> None:
        self.db, self.name, self.channel, self.failures = db, name, channel, failures
        self.due: TextClause | None = text("EXISTS (SELECT FROM work)")
        self.handled, self.runs, self.empty = 0, 0, asyncio.Event()

    async def run(self) -> int:
        self.runs += 1
        if self.runs <= self.failures:
            raise ValueError("not yet")
        async with self.db.transaction() as session:
            row = await session.scalar(
                text("DELETE FROM work WHERE id = (SELECT id FROM work LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id")
            )
        if row is None:
            self.empty.set()
            return 0
        self.handled += 1
        return 1


class Tick:
    due = None
    channel = None

    def __init__(self, name: str, interval: float) -> None:
        self.name, self.interval, self.runs = name, interval, 0

    async def run(self) -> int:
        self.runs += 1
        return 0


async def test_ring_wakes_a_loop_long_before_the_poll(db: Database) -> None:
    bell, loop = Doorbell(db), Drain(db, channel="work")
    async with running(bell.run, LoopRunner(db, bell, [loop], poll_seconds=30).run):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await bell.wait_connected(5)
        loop.empty.clear()
        for _ in range(3):
            await add(db, ring="work")
        async with asyncio.timeout(2):
            while loop.handled < 3:
                await asyncio.sleep(0.01)


async def test_poll_finds_rows_without_a_ring_and_survives_failures(db: Database) -> None:
    loop, idle = Drain(db, failures=2), Drain(db, name="idle")
    idle.due = text("false")
    await add(db)
    async with running(LoopRunner(db, None, [loop, idle], poll_seconds=0.05).run):
        async with asyncio.timeout(5):
            await loop.empty.wait()
    assert (loop.handled, idle.runs) == (1, 0)


async def test_timed_loops_keep_their_own_interval(db: Database) -> None:
    fast, slow = Tick("fast", 0.02), Tick("slow", 60)
    async with running(LoopRunner(db, None, [fast, slow], poll_seconds=0.02).run):
        async with asyncio.timeout(5):
            while fast.runs < 5:
                await asyncio.sleep(0.01)
    assert slow.runs == 1


async def test_due_is_asked_in_one_statement(db: Database) -> None:
    first, second = Drain(db, "first"), Drain(db, "second")
    second.due = text("false")
    await add(db)
    assert await LoopRunner(db, None, [first, second]).due() == ["first"]


async def test_doorbell_replaces_a_lost_connection_and_rings_everybody(db: Database, database_url: str) -> None:
    bell, rings = Doorbell(db, ping_seconds=0.2), asyncio.Event()
    bell.subscribe("work", rings.set)
    admin = await asyncpg.connect(database_url)
    async with running(bell.run):
        await bell.wait_connected(5)
        await asyncio.wait_for(rings.wait(), 5)
        rings.clear()
        killed = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'slipway-doorbell' AND datname = current_database()"
        )
        assert len(killed) == 1
        await asyncio.wait_for(rings.wait(), 5)
        rings.clear()
        await add(db, ring="work")
        await asyncio.wait_for(rings.wait(), 2)
        await bell.wait("other", 0.3)  # may ring once, for what came before it listened
        assert not await bell.wait("other", 0.05)
    await admin.close()


async def test_a_stale_lease_changes_nothing(db: Database) -> None:
    work = Table(
        "work",
        MetaData(),
        Column("id", Uuid, primary_key=True),
        Column("lease_token", Uuid),
        Column("leased_until", DateTime(timezone=True)),
    )
    await add(db)

    async def take(seconds: float) -> leases.Lease:
        async with db.transaction() as session:
            return await leases.fetch(session, work, true(), order_by=[work.c.id], limit=10, seconds=seconds)

    stale = await take(0)
    current = await take(60)
    assert len(stale.rows) == len(current.rows) == 1
    assert (await take(60)).rows == []
    row = current.rows[0]["id"]
    async with db.transaction() as session:
        assert not await leases.apply(session, work, row, stale.token, {})
        assert await leases.apply(session, work, row, current.token, {})
    assert len((await take(60)).rows) == 1
