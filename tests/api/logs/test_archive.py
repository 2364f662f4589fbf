"""Lines become durable during the run, small logs stay in their row, and the tail stays small."""

import asyncio
from datetime import timedelta

import pytest

from slipway_logs.archive.service import KEPT_BYTES
from slipway_logs.archive.store import ArchiveStore, Segment
from slipway_logs.ingest.hot_tail import stream_key
from slipway_logs.metadata.store import MetadataStore
from slipway_logs.retention.loops import RetentionLoop
from slipway_schemas.logs import LogsAnswer
from slipway_storage import ObjectStore
from tests.api.logs.harness import T0, Attempt, Relay, Served, end_frame, frame, metadata_frame


async def index_of(relay: Relay, attempt: Attempt) -> list[Segment]:
    async with relay.context.db.read() as session:
        return await ArchiveStore(session).segments(attempt.id)


async def print_mebibyte(relay: Relay, attempt: Attempt, first: int) -> LogsAnswer:
    """16 frames of 64 KiB that do not compress to nothing."""
    answer = None
    for n in range(first, first + 16 * 64, 64):
        lines = [(b"%d " % (number * 7_919)).ljust(1023, b"%x" % (number % 16)) + b"\n" for number in range(n, n + 64)]
        answer = await relay.send(attempt, frame(lines, n))
    assert answer is not None
    return answer


async def test_small_log_is_inline_and_grows_in_its_row(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    attempt.print("a", "b", "c", "d")
    await any_relay.send(attempt, *attempt.frames(0, 2))
    assert await any_relay.archive.flush_due() == 0, "15 s are not over"
    any_relay.context.clock.moved += timedelta(seconds=16)
    assert await any_relay.archive.flush_due() == 1
    assert (await any_relay.send(attempt, *attempt.frames(2), end_frame(4))).durable == 2
    assert await any_relay.archive.flush_due() == 1
    (segment,) = await index_of(any_relay, attempt)
    assert segment.inline is not None
    assert (segment.first_line, segment.end_line, segment.object_key) == (0, 4, None)
    assert (await any_relay.send(attempt)).durable == 4


async def test_large_log_is_written_before_its_end(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    await print_mebibyte(any_relay, attempt, 0)
    assert await any_relay.archive.flush_due() == 1
    await print_mebibyte(any_relay, attempt, 1024)
    assert await any_relay.archive.flush_due() == 1
    index = await index_of(any_relay, attempt)
    assert [(one.first_line, one.end_line, one.inline) for one in index] == [(0, 1024, None), (1024, 2048, None)]
    memory = sum(len(fields[b"f"]) for _, fields in await any_relay.context.redis.xrange(stream_key(attempt.id)))
    assert memory <= KEPT_BYTES + 64 * 1024
    events = (await any_relay.events(attempt.execution_id, "?limit=0"))["events"]
    assert [int(event["message"].split()[0]) for event in events] == [n * 7_919 for n in range(2048)]


async def test_small_after_large_does_not_join_the_first_row(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    attempt.print("first")
    await any_relay.send(attempt, *attempt.frames())
    await any_relay.flush_all()
    await print_mebibyte(any_relay, attempt, 1)
    await any_relay.flush_all()
    await any_relay.send(attempt, frame([b"last\n"], 1025), end_frame(1026))
    await any_relay.flush_all()
    index = await index_of(any_relay, attempt)
    assert [(one.first_line, one.end_line) for one in index] == [(0, 1), (1, 1025), (1025, 1026)]
    await any_relay.context.redis.flushall()
    messages = [event["message"] for event in (await any_relay.events(attempt.execution_id, "?limit=0"))["events"]]
    assert (messages[0], messages[-1], len(messages)) == ("first", "last", 1026)


async def test_two_replicas_write_each_line_once(any_relay: Relay) -> None:
    attempts = [await any_relay.world.add_attempt() for _ in range(5)]
    for attempt in attempts:
        await any_relay.send(attempt, frame([b"a\n", b"b\n"], 0), end_frame(2))
    written = await asyncio.gather(*(any_relay.factory.archive().flush_due() for _ in range(4)))
    assert sum(written) == 5
    for attempt in attempts:
        assert [(one.first_line, one.end_line) for one in await index_of(any_relay, attempt)] == [(0, 2)]
        assert (await any_relay.send(attempt)).durable == 2


async def test_keys_of_ended_attempts_go(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    await any_relay.send(attempt, frame([b"a\n"], 0), end_frame(1))
    await any_relay.archive.flush_due()
    redis = any_relay.context.redis
    keys = [key async for key in redis.scan_iter("log*")]
    assert len(keys) == 2, "the stream and its state; nothing is dirty"
    for key in keys:
        assert 0 < await redis.ttl(key) <= 600


@pytest.mark.parametrize("lost", ["all", "frames", "state"])
async def test_what_redis_loses_is_asked_for_again(any_relay: Relay, lost: str) -> None:
    attempt = await any_relay.world.add_attempt()
    attempt.print("a", "b", "c", "d")
    await any_relay.send(attempt, *attempt.frames(0, 2))
    await any_relay.flush_all()
    await any_relay.send(attempt, *attempt.frames(2, 4))
    redis, key = any_relay.context.redis, stream_key(attempt.id)
    match lost:
        case "all":
            await redis.flushall()
        case "frames":
            await redis.delete(key)
        case "state":
            await redis.delete(f"{key}:state")
    await any_relay.flush_all()
    answer = await any_relay.send(attempt)
    # Frames without their state are whole, and are written as they are.
    there = 4 if lost == "state" else 2
    assert (answer.next, answer.durable) == (there, there)
    await any_relay.send(attempt, *attempt.frames(there, 4), end_frame(4))
    await any_relay.flush_all()
    messages = [event["message"] for event in (await any_relay.events(attempt.execution_id))["events"]]
    assert messages == ["a", "b", "c", "d"]
    assert (await any_relay.send(attempt)).durable == 4


async def test_what_redis_loses_right_after_the_end_may_be_sent_again(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    attempt.print("a", "b")
    await relay.send(attempt, *attempt.frames(), end_frame(2))
    await relay.world.end(attempt, lines=2)
    await relay.context.redis.flushall()
    relay.factory.attempt_access._standing.clear()
    assert (await relay.send(attempt)).next == 0
    await relay.send(attempt, *attempt.frames(), end_frame(2))
    await relay.archive.flush_due()
    assert (await relay.send(attempt)).durable == 2


async def test_store_failure_keeps_the_lines_and_other_attempts_go_on(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = await relay.world.add_attempt(), await relay.world.add_attempt()
    await print_mebibyte(relay, large, 0)
    await relay.send(small, frame([b"a\n"], 0), end_frame(1))

    async def refuse(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(relay.context.object_store, "put", refuse)
        assert await relay.archive.flush_due() == 1
        assert (await relay.send(small)).durable == 1
        assert (await relay.send(large)).durable == 0
    assert await relay.archive.flush_due() == 1
    assert (await relay.send(large)).durable == 1024


async def test_end_is_durable_within_two_seconds(served: Served) -> None:
    attempt = await served.world.add_attempt()
    attempt.print("a", "b")
    await served.send(attempt, *attempt.frames(), end_frame(2))
    assert await served.until_durable(attempt, 2, seconds=2) < 2


def retention(relay: Relay, store: ObjectStore) -> RetentionLoop:
    return RetentionLoop(relay.context.db, store, relay.context.clock, None, timedelta(days=30))


@pytest.mark.parametrize("deleted", [False, True])
async def test_metadata_goes_with_a_deleted_execution_only(relay: Relay, deleted: bool) -> None:
    attempt = await relay.world.add_attempt()
    attempt.print("loss")
    await relay.send(attempt, *attempt.frames(), metadata_frame([(T0, {"loss": 1})], 0))
    async with relay.context.db.transaction() as session:
        await ArchiveStore(session).schedule_purge(attempt.execution_id, relay.context.clock.now())
    if deleted:
        await relay.world.admin.execute("UPDATE scheduler_pub.execution_v1 SET deleted_at = now()")
    assert await retention(relay, relay.context.object_store).run() == 1
    async with relay.context.db.read() as session:
        assert await MetadataStore(session).count(attempt.id) == (0 if deleted else 1)


async def test_purge_takes_objects_and_index(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    await print_mebibyte(relay, attempt, 0)
    await relay.flush_all()
    store = relay.context.object_store
    assert [found async for found in store.list("logs")]
    async with relay.context.db.transaction() as session:
        await ArchiveStore(session).schedule_purge(attempt.execution_id, relay.context.clock.now())
    await relay.context.redis.flushall()
    loop = retention(relay, store)
    assert await loop.run() == 1
    assert await loop.run() == 0
    assert [found async for found in store.list("logs")] == []
    assert (await relay.events(attempt.execution_id))["events"] == []
