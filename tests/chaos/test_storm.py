"""kill -9 of everything, again and again, while executions run: nothing lost, nothing doubled, nothing left."""

import statistics

import pytest

from tests.chaos.support import ledger
from tests.chaos.support.checker import Verdict, judge
from tests.chaos.support.clients import Clients
from tests.chaos.support.ground import Ground
from tests.chaos.support.plan import Scale, blows, chosen_scale, chosen_seed, full_run, jobs
from tests.chaos.support.storm import Storm, Weather

pytestmark = pytest.mark.bwrap

TAKEOVER_SECONDS = 6.0
PERMANENT_SEEDS: tuple[int, ...] = (773257466,)
"""Seeds of schedules that once found a fault: a dispatch that came 9 s after a killed part answered again."""
PERMANENT_SCALE = Scale(executions=200, kills=20)


async def storm(ground: Ground, seed: int, scale: Scale) -> None:
    """One storm from its seed."""
    print(f"\nchaos: seed {seed}; SLIPWAY_CHAOS_SEED={seed} repeats this schedule")
    platform = ground.platform
    async with Clients(platform.url, platform.credentials["token"], ground.project, ground.commit, seed) as clients:
        running = Storm(ground.site, clients, jobs(seed, scale), blows(seed, scale), scale)
        await running.run()
        verdict = await judge(ground.site, clients, running.weather)
        _tell(seed, verdict, running.weather, clients)
    assert verdict.problems == [], f"seed {seed}:\n" + "\n".join(verdict.problems[:40])
    assert sum(running.weather.kills.values()) >= scale.kills
    assert {at: took for at, took in verdict.takeovers.items() if took > TAKEOVER_SECONDS} == {}


def _tell(seed: int, verdict: Verdict, weather: Weather, clients: Clients) -> None:
    kills = sum(weather.kills.values())
    victims = ", ".join(f"{victim} {count}" for victim, count in sorted(weather.kills.items()))
    others = len(weather.struck) - kills
    waits = list(verdict.takeovers.values()) or [0.0]
    counts = {
        "executions": verdict.executions,
        "kills": kills,
        "other signals": others,
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "run again": verdict.again,
        "faults found": len(verdict.problems),
    }
    figures = [
        f"Kills by victim: {victims}.",
        "Ends: " + ", ".join(f"{status} {count}" for status, count in sorted(verdict.statuses.items())) + ".",
        f"Dispatch after a killed service or server answered again: p50 {statistics.median(waits):.2f} s, "
        f"max {max(waits):.2f} s of {len(verdict.takeovers)}.",
        f"{clients.retried} requests had to be sent again.",
    ]
    ledger.record("kill -9 storm", seed, counts, figures)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [None, *(PERMANENT_SEEDS if full_run() else ())])
async def test_nothing_is_lost_in_a_storm(ground: Ground, seed: int | None) -> None:
    """Executions while every part of the platform is killed in turn; `make chaos` adds the seeds that once failed."""
    if seed is None:
        await storm(ground, chosen_seed(), chosen_scale())
    else:
        await storm(ground, seed, PERMANENT_SCALE)
