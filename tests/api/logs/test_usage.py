"""Series of what runs use: stored once, in blocks, thinned out for readers."""

import asyncio
from typing import Any

import pytest

from tests.api.logs.harness import T0, Attempt, Relay

SECOND = 1_000_000


def samples(first: int, end: int, step: int = 10 * SECOND) -> list[dict[str, Any]]:
    return [{"time_us": T0 + n * step, "cpu_seconds": float(n), "memory_bytes": n} for n in range(first, end)]


async def send(relay: Relay, attempt: Attempt, body: list[dict[str, Any]], status: int = 200) -> None:
    answer = await relay.post_usage(attempt, body)
    assert answer.status_code == status, answer.text


async def test_samples_are_stored_once_and_in_order(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    other = await relay.world.add_attempt()
    await asyncio.gather(send(relay, attempt, samples(0, 3)), send(relay, other, samples(0, 1)))
    await send(relay, attempt, samples(0, 3))
    await asyncio.gather(send(relay, attempt, samples(3, 50)), send(relay, attempt, samples(3, 50)))
    await send(relay, attempt, samples(1080, 1100))
    (series,) = (await relay.get(attempt.execution_id, "usage")).json()
    assert (series["attempt_id"], series["count"]) == (str(attempt.id), 70)
    assert [one["memory_bytes"] for one in series["samples"]] == [*range(50), *range(1080, 1100)]
    rows = await relay.world.admin.fetch(
        "SELECT jsonb_array_length(samples) AS n FROM logs.usage_blocks WHERE attempt_id = $1", attempt.id
    )
    assert sum(row["n"] for row in rows) == 70
    assert len(rows) <= 3


async def test_readers_get_a_thinned_out_series_with_both_ends(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    for first in range(0, 1000, 100):
        await send(relay, attempt, samples(first, first + 100))
    (series,) = (await relay.get(attempt.execution_id, "usage?points=11")).json()
    values = [one["memory_bytes"] for one in series["samples"]]
    assert (len(values), values[0], values[-1], series["count"]) == (11, 0, 999, 1000)


@pytest.mark.parametrize(
    "body", [[], [{"time_us": 0}], [{"time_us": T0}, {"time_us": T0}], [{"time_us": T0, "cpus": -1}]]
)
async def test_bad_batches_are_refused(relay: Relay, body: list[dict[str, Any]]) -> None:
    attempt = await relay.world.add_attempt()
    await send(relay, attempt, body, status=400)


async def test_a_superseded_attempt_may_not_send(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    await relay.world.supersede(attempt)
    await send(relay, attempt, samples(0, 1), status=409)
    assert (await relay.get(attempt.execution_id, "usage")).json() == []
