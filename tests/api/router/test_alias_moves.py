"""An alias moves under load: no request fails, and after the confirmation none is answered by the old version."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from slipway_testing.wire import Wire
from tests.api.router.support import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOVES = 200
REQUESTS_PER_SECOND = 500
CLIENTS = 10
BOUND_SECONDS = 1.0
"""Of a busy machine; `python -m tests.bench router-moves` holds the goal of 30 ms."""


@dataclass
class Load:
    """Requests in an open loop, half on new connections and half on kept ones."""

    site: Site
    path: str
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    answers: list[tuple[float, float, str | None]] = field(default_factory=list)
    """When a request was sent, when its answer was read, and which version served it."""

    async def client(self, number: int, until: asyncio.Event) -> None:
        """One client: every second request on a connection of its own."""
        interval = CLIENTS / REQUESTS_PER_SECOND
        next_at = time.monotonic() + interval * number / CLIENTS
        async with Wire(self.site.router.port) as kept:
            while not until.is_set():
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))
                next_at += interval
                self.sent += 1
                began = time.monotonic()
                try:
                    if self.sent % 2:
                        answer = await kept.get(self.path)
                    else:
                        answer = await self.site.router.get(self.path)
                except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status != 200:
                    self.failed.append(str(answer.status))
                self.answers.append((began, time.monotonic(), answer.header("x-slipway-version")))


async def test_aliases_move_under_load(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    endpoints = ("greet", "train", "score")
    versions = {"v1": site.first(), "v2": site.second()}
    await site.put(*(site.route("production", versions["v1"], endpoint=one) for one in endpoints))
    load, until = Load(site, f"{site.path('production')}/echo"), asyncio.Event()
    clients = [asyncio.create_task(load.client(number, until)) for number in range(CLIENTS)]
    moves: list[tuple[float, float, str]] = []
    for number in range(MOVES):
        target = "v1" if number % 2 else "v2"
        await asyncio.sleep(0.03)
        called = time.monotonic()
        await site.put(*(site.route("production", versions[target], endpoint=one) for one in endpoints))
        moves.append((called, time.monotonic(), target))
    await asyncio.sleep(0.1)
    until.set()
    await asyncio.gather(*clients)

    last_old, late = [], 0
    for index, (called, confirmed, target) in enumerate(moves):
        ends = moves[index + 1][0] if index + 1 < len(moves) else float("inf")
        late += sum(confirmed <= sent and read < ends and version != target for sent, read, version in load.answers)
        old = [read - called for sent, read, version in load.answers if called <= read < ends and version != target]
        last_old.append(max(old, default=0.0))
    confirmations = sorted(confirmed - called for called, confirmed, _ in moves)
    p99 = sorted(last_old)[round(0.99 * (len(last_old) - 1))]
    with capsys.disabled():
        print(
            f"\n{site.router.router_id.partition('-')[0]}: {MOVES} moves of {len(endpoints)} endpoints, "
            f"{load.sent} requests, {len(load.failed)} failed, {late} from the old version after the confirmation; "
            f"call to confirmation p50 {confirmations[len(confirmations) // 2] * 1000:.1f} ms, "
            f"call to last old answer p99 {p99 * 1000:.1f} ms"
        )
    assert load.failed == []
    assert load.sent > MOVES
    assert late == 0
    assert p99 < BOUND_SECONDS
