"""An alias moves under load: no request fails, and after the confirmation none is answered by the old version."""

import asyncio
import time

import pytest

from slipway_testing.alias_moves import Move, requests_at
from tests.api.router.support import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOVES = 200
REQUESTS_PER_SECOND = 500
BOUND_MS = 1000.0
"""Of a busy machine; `python -m tests.bench router-moves` holds the goal of 30 ms."""


async def test_aliases_move_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = ("greet", "train", "score")
    versions = {"v1": site.first(), "v2": site.second()}
    await site.put(*(site.route("production", versions["v1"], endpoint=one) for one in endpoints))
    path, moves = f"{site.path('production')}/echo", list[Move]()
    async with requests_at("127.0.0.1", site.router.port, path, REQUESTS_PER_SECOND, "none") as load:
        for number in range(MOVES):
            target = "v1" if number % 2 else "v2"
            await asyncio.sleep(0.03)
            called = time.monotonic()
            await site.put(*(site.route("production", versions[target], endpoint=one) for one in endpoints))
            moves.append(Move(called, time.monotonic(), target))
        await asyncio.sleep(0.1)
        report = await load.report(moves)
    with capsys.disabled():
        print(f"\n{site.router.router_id.partition('-')[0]}, {len(endpoints)} endpoints: {report}")
    assert report.failures == []
    assert report.sent > MOVES
    assert report.late == 0
    assert report.p99 < BOUND_MS
