"""Aliases move on one machine, from the call at the builder through its rows to HAProxy, while requests come in."""

import asyncio
import os
from pathlib import Path

import pytest

from slipway_testing.alias_moves import requests_at
from slipway_testing.pods import small_project
from tests.api.builder.harness import Start
from tests.cluster.test_inference import new_key, router

pytestmark = pytest.mark.haproxy

FULL = os.environ.get("SLIPWAY_CHAOS") == "full"
MOVES = 200 if FULL else 30
BOUND_MS = 30.0 if FULL else 1000.0
"""Until the last answer of the old version, of 99 % of the moves; a machine that runs all tests at once is busy."""
REQUESTS_PER_SECOND = 500
PAUSE_SECONDS = 0.08
PATH = "/acme/iris/main/production/greet"


async def test_moves_reach_all_requests(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with start() as builder, router(builder, tmp_path / "router") as client:
        builder.gateway.add_commit("small", small_project())
        deployment = await builder.deployment()
        key, versions = await new_key(builder, deployment), []
        for word in ("one", "two"):
            made = await builder.version(deployment, commit="small", command=f"python3 server.py $VALOHAI_PORT {word}")
            await builder.until(made["id"], "AVAILABLE")
            versions.append(made)

        await builder.move(deployment, versions[1])
        moves = []
        async with requests_at(
            "127.0.0.1", client.base_url.port or 0, f"{PATH}/echo", REQUESTS_PER_SECOND, key
        ) as load:
            await asyncio.sleep(0.5)
            for number in range(MOVES):
                moves.append(await builder.move(deployment, versions[number % 2]))
                await asyncio.sleep(PAUSE_SECONDS)
            report = await load.report(moves)
    with capsys.disabled():
        print(f"\none machine, builder and HAProxy: {report}")
    assert report.failures == []
    assert report.sent > MOVES
    assert report.late == 0
    assert report.p99 < BOUND_MS
