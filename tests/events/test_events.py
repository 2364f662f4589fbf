import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import Database, Doorbell, emit
from slipway_db.database import engine_for
from slipway_db.outbox import consumer_tables, outbox_tables
from slipway_db.tables import metadata_for
from slipway_events import ConsumerRef, EventConsumer, EventRelay, connect_redis, stream_of, try_parked_again
from slipway_schemas.events import Event, EventEnvelope


class Made(Event):
    name: ClassVar[str] = "shop.item.made"
    publisher: ClassVar[str] = "shop"
    consumers: ClassVar[tuple[str, ...]] = ("mill",)
    item: str
    number: int

    def key(self) -> str:
        return self.item


@dataclass
class World:
    shop: Database
    mill: Database
    redis: Redis
    redis_url: str
    broken: set[int] = field(default_factory=set)

    def relay(self, **options: int) -> EventRelay:
        return EventRelay(self.shop, self.redis, "shop", consumers=[ConsumerRef("mill", "audit")], **options)

    def consumer(self) -> EventConsumer:
        return EventConsumer(
            self.mill,
            self.redis,
            "audit",
            "shop",
            {Made.name: self.handle},
            block_seconds=0.1,
            recheck_seconds=0.3,
            first_pause=0.0,
        )

    async def handle(self, session: AsyncSession, envelope: EventEnvelope) -> None:
        await session.execute(
            text("INSERT INTO effect (key, number) VALUES (:key, :number)"),
            {"key": envelope.key, "number": envelope.payload["number"]},
        )
        if envelope.payload["number"] in self.broken:
            raise ValueError("broken part")

    async def emit(self, *numbers: int, item: str = "a") -> None:
        async with self.shop.transaction() as session:
            await emit(session, *(Made(item=item, number=number) for number in numbers), actor=7)

    async def effects(self) -> list[int]:
        async with self.mill.read() as session:
            return list((await session.scalars(text("SELECT number FROM effect ORDER BY seq"))).all())

    async def until(self, expected: list[int]) -> None:
        seen: list[int] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(8):
                while (seen := await self.effects()) != expected:
                    await asyncio.sleep(0.02)
        assert seen == expected


@pytest.fixture
async def world(database_url: str, valkey_url: str) -> AsyncIterator[World]:
    for schema, tables in (("shop", outbox_tables), ("mill", consumer_tables)):
        engine = engine_for(database_url, schema=schema)
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE SCHEMA {schema}"))
            await connection.execute(text(f"CREATE SCHEMA {schema}_pub"))
            metadata = metadata_for(schema)
            tables(metadata)
            await connection.run_sync(metadata.create_all)
        await engine.dispose()
    shop, mill = (Database(database_url, schema=schema, pool_size=4) for schema in ("shop", "mill"))
    async with shop.transaction() as session:
        await session.execute(text("INSERT INTO outbox_head VALUES (1, 0)"))
        await session.execute(text("CREATE VIEW shop_pub.event_v1 AS SELECT * FROM outbox WHERE position IS NOT NULL"))
    async with mill.transaction() as session:
        await session.execute(text("CREATE VIEW mill_pub.cursor_v1 AS SELECT * FROM cursors"))
        await session.execute(text("CREATE TABLE effect (seq bigserial, key text, number int)"))
    redis = connect_redis(valkey_url)
    yield World(shop, mill, redis, valkey_url)
    await redis.aclose()
    await shop.close()
    await mill.close()


@contextlib.asynccontextmanager
async def consuming(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.consumer().run())
    yield
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_events_flow_from_commit_to_effect(world: World) -> None:
    bell = Doorbell(world.shop)
    tasks = [asyncio.create_task(run()) for run in (bell.run, world.relay().background_task(bell).run)]
    async with consuming(world):
        await world.emit(1, 2)
        await world.emit(3, item="b")
        await world.until([1, 2, 3])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_rolled_back_change_tells_nothing(world: World) -> None:
    with pytest.raises(LookupError):  # noqa: PT012
        async with world.shop.transaction() as session:
            await emit(session, Made(item="a", number=1), actor=None)
            raise LookupError
    assert await world.relay().publish() == 0
    assert await world.redis.exists(stream_of("shop")) == 0


async def test_positions_are_gapless_with_relays_at_once(world: World) -> None:
    relays = [world.relay(), world.relay()]
    for number in range(20):
        await world.emit(number)
        await asyncio.gather(*(relay.publish() for relay in relays))
    await world.relay().publish()
    entries = await world.redis.xrange(stream_of("shop"))
    assert [entry[0] for entry in entries] == [f"{n}-0".encode() for n in range(1, 21)]


async def test_a_late_commit_gets_a_later_position(world: World) -> None:
    async with world.shop.transaction() as session:
        await emit(session, Made(item="slow", number=1), actor=None)
        task = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(emit_and_publish(world))))
        await task
    await world.relay().publish()
    await world.consumer().catch_up()
    assert await world.effects() == [2, 1]


async def emit_and_publish(world: World) -> None:
    other = Database(world.shop.url, schema="shop", pool_size=1)
    from slipway_kit.unit_of_work import transaction_open

    transaction_open.set(False)
    async with other.transaction() as session:
        await emit(session, Made(item="fast", number=2), actor=None)
    redis = connect_redis(world.redis_url)
    await EventRelay(other, redis, "shop").publish()
    await redis.aclose()
    await other.close()


async def test_losing_redis_loses_no_event(world: World) -> None:
    relay = world.relay()
    await world.emit(1, 2, 3)
    await relay.publish()
    async with consuming(world):
        await world.until([1, 2, 3])
    await world.emit(4, 5)
    await relay.publish()
    await world.redis.flushall()
    async with consuming(world):  # nothing in the stream at all
        await world.until([1, 2, 3, 4, 5])
        await world.redis.flushall()
        await world.emit(6)
        await relay.publish()
        await world.until([1, 2, 3, 4, 5, 6])
        await world.emit(7, 8)
        await relay.publish()
        await world.redis.xdel(stream_of("shop"), "7-0")
    async with consuming(world):
        await world.until([1, 2, 3, 4, 5, 6, 7, 8])


async def test_a_stream_of_another_life_is_replaced(world: World) -> None:
    await world.redis.xadd(stream_of("shop"), {"e": "x"}, id="900-0")
    await world.emit(1)
    await world.relay().publish()
    assert [entry[0] for entry in await world.redis.xrange(stream_of("shop"))] == [b"1-0"]


async def test_seen_again_is_not_done_again(world: World) -> None:
    await world.emit(1, 2)
    await world.relay().publish()
    await asyncio.gather(world.consumer().catch_up(), world.consumer().catch_up())
    async with consuming(world):
        await world.emit(3)
        await world.relay().publish()
        await world.until([1, 2, 3])


async def test_a_broken_event_is_parked_and_other_keys_go_on(world: World) -> None:
    world.broken.add(1)
    await world.emit(1, 2, item="bad")
    await world.emit(3, item="good")
    await world.relay().publish()
    consumer = world.consumer()
    await consumer.catch_up()
    assert await world.effects() == [3]
    for _ in range(8):
        await consumer.retry_due()
    assert await world.effects() == [3]
    await consumer.retry_due()  # the tenth failure: parked, and its key goes on
    await consumer.retry_due()
    assert await world.effects() == [3, 2]
    async with world.mill.read() as session:
        row = (await session.execute(text("SELECT position, tries, error FROM dead_letter"))).one()
    assert (row.position, row.tries) == (1, 10)
    assert "broken part" in row.error
    world.broken.clear()
    async with world.mill.transaction() as session:
        assert await try_parked_again(session, "audit", 1)
    assert await consumer.retry_due() == 1
    assert await world.effects() == [3, 2, 1]


async def test_rows_stay_until_all_have_passed_and_a_week(world: World) -> None:
    relay = world.relay()
    await world.emit(1, 2)
    await relay.publish()
    async with world.shop.transaction() as session:
        await session.execute(text("UPDATE outbox SET occurred_at = now() - interval '8 days' WHERE position = 1"))
    assert await relay.trim() == 0
    await world.consumer().catch_up()
    assert await relay.trim() == 1
    await world.emit(3)
    await relay.publish()
    assert await world.redis.xlen(stream_of("shop")) == 3
