"""Metadata records: committed in groups, each once, with the last value of each key."""

import asyncio
import dataclasses
from typing import Any

import asyncpg

from tests.api.logs.harness import T0, Attempt, Relay, metadata_frame


async def latest(relay: Relay, attempt: Attempt) -> tuple[dict[str, Any], int]:
    import json

    row = await relay.world.admin.fetchrow(
        "SELECT values, records FROM logs_pub.metadata_latest_v1 WHERE execution_id = $1", attempt.execution_id
    )
    assert row is not None
    return json.loads(row["values"]), row["records"]


async def records_of(relay: Relay, attempt: Attempt) -> list[dict[str, Any]]:
    return (await relay.get(attempt.execution_id, "metadata")).json()


def losses(first: int, end: int) -> bytes:
    return metadata_frame([(T0 + n, {"epoch": n}) for n in range(first, end)], first)


async def test_repetitions_overlaps_and_gaps(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    assert (await relay.send(attempt, losses(0, 3))).metadata_next == 3
    assert (await relay.send(attempt, losses(0, 3))).metadata_next == 3
    assert (await relay.send(attempt, losses(5, 7))).metadata_next == 3
    assert (await relay.send(attempt, losses(1, 5))).metadata_next == 5
    assert (await relay.send(attempt, losses(5, 6), losses(6, 8))).metadata_next == 8
    assert (await relay.send(attempt)).metadata_next == 8
    assert [record["epoch"] for record in await records_of(relay, attempt)] == list(range(8))
    assert await latest(relay, attempt) == ({"epoch": 7}, 8)


async def test_last_values_and_times(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    own = "2001-01-01T00:00:00"
    await relay.send(attempt, metadata_frame([(T0, {"a": 1, "b": [1, {"c": None}]}), (T0 + 1, {"a": 2.5})], 0))
    await relay.send(attempt, metadata_frame([(T0 + 2, {"_time": own, "values": "x", "": 0, "'\"": True})], 2))
    assert await latest(relay, attempt) == (
        {"a": 2.5, "b": [1, {"c": None}], "_time": own, "values": "x", "": 0, "'\"": True},
        3,
    )
    records = await records_of(relay, attempt)
    assert [record["_time"] for record in records] == [
        "2023-11-14T22:13:20.000000+00:00",
        "2023-11-14T22:13:20.000001+00:00",
        own,
    ]


async def test_nul_and_odd_text(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    record = {"nul\x00": "a\x00b", "escaped": "\\u0000", "emoji": "🚢", "big": 2**70}
    await relay.send(attempt, metadata_frame([(T0, record)], 0))
    values, _ = await latest(relay, attempt)
    assert values == {"nul�": "a�b", "escaped": "\\u0000", "emoji": "🚢", "big": 2**70}


async def test_newer_attempt_replaces(relay: Relay) -> None:
    first = await relay.world.add_attempt()
    second = await relay.world.add_attempt(first.execution_id, number=2)
    await relay.send(first, metadata_frame([(T0, {"old": 1, "both": 1})], 0))
    await relay.send(second, metadata_frame([(T0, {"both": 2})], 0))
    await relay.send(first, metadata_frame([(T0, {"late": 1})], 1))
    assert await latest(relay, first) == ({"both": 2}, 1)
    assert [record["both"] for record in await records_of(relay, first)] == [2]


async def test_blocks_hold_a_thousand(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    for first, end in ((0, 900), (900, 1500), (1500, 3000)):
        await relay.send(attempt, losses(first, end))
    rows = await relay.world.admin.fetch(
        "SELECT first, count, jsonb_array_length(records) AS length FROM logs.metadata_blocks"
        " WHERE attempt_id = $1 ORDER BY first",
        attempt.id,
    )
    assert [tuple(row) for row in rows] == [(0, 1000, 1000), (1000, 1000, 1000), (2000, 1000, 1000)]
    assert [record["epoch"] for record in await records_of(relay, attempt)] == list(range(3000))


async def test_many_attempts_share_a_commit(relay: Relay) -> None:
    attempts = [await relay.world.add_attempt() for _ in range(40)]
    tokens = [relay.world.attempt_signer.sign(attempt.claims()) for attempt in attempts]
    await asyncio.gather(*(relay.send(attempt) for attempt in attempts))
    before = await _commits(relay.world.admin)
    await asyncio.gather(
        *(
            relay.context.metadata_writer.write(attempt.source(), [_parsed(losses(0, 5))])
            for attempt, _ in zip(attempts, tokens, strict=True)
        )
    )
    assert await _commits(relay.world.admin) - before <= 4
    for attempt in attempts:
        assert await latest(relay, attempt) == ({"epoch": 4}, 5)


def _parsed(data: bytes) -> Any:
    from slipway_logs.frames import parse_request

    return parse_request(data)[0]


async def _commits(admin: asyncpg.Connection) -> int:
    return int(await admin.fetchval("SELECT txid_snapshot_xmax(txid_current_snapshot())"))


async def test_one_poisoned_record_does_not_fail_others(relay: Relay) -> None:
    good, bad = await relay.world.add_attempt(), await relay.world.add_attempt()
    await asyncio.gather(relay.send(good), relay.send(bad))
    writer = relay.context.metadata_writer
    poison = _parsed(metadata_frame([(T0, {"x": "fine"})], 0))
    from slipway_kit.errors import Invalid

    results = await asyncio.gather(
        writer.write(good.source(), [_parsed(losses(0, 2))]),
        # A number that does not fit its column stands for whatever Postgres may refuse.
        writer.write(dataclasses.replace(bad.source(), number=2**40), [poison]),
        return_exceptions=True,
    )
    assert results[0] == 2
    assert isinstance(results[1], Invalid)


async def test_unreadable_records_are_refused(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    wrong_count = metadata_frame([(T0, {})], 0)
    for data in (
        metadata_frame([(T0, 5)], 0),  # type: ignore[list-item]
        wrong_count.replace(b"\x01\x00\x00\x00", b"\x02\x00\x00\x00", 1),
    ):
        answer = await relay.post(attempt, data)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_frame")
    assert (await relay.send(attempt)).metadata_next == 0
