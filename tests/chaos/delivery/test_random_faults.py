"""Delivery broken at random: what arrives is what was printed and written, once."""

import os
import random
import time

import pytest
import redis

from slipway_testing.faults import seeded_faults
from tests.chaos.delivery.conftest import Broken
from tests.chaos.delivery.support import Printer, sized, transitions

pytestmark = pytest.mark.usefixtures("mended")

SEED = int(os.environ.get("SLIPWAY_CHAOS_SEED", "") or random.SystemRandom().randrange(10**6))
SECONDS = sized(12, 40, 120)
SHARE = 0.25
BLOWS = ("kill relay", "kill worker", "flush Valkey", "restart Postgres")


def _printers(chance: random.Random) -> list[Printer]:
    """Several rates and kinds; one prints as fast as it can."""
    return [
        Printer(chance.randrange(10**6), "text", int(60 * SECONDS), per_second=60, outputs=3),
        Printer(chance.randrange(10**6), "binary", int(300 * SECONDS), per_second=300, code=1),
        Printer(chance.randrange(10**6), "long", int(40 * SECONDS), per_second=40, output_bytes=3_000_000),
        Printer(chance.randrange(10**6), "text", int(sized(80_000, 400_000, 2_000_000)), outputs=1),
    ]


@pytest.mark.timeout(sized(300, 900, 1800))
def test_nothing_is_lost_or_doubled(broken: Broken, record_property) -> None:  # type: ignore[no-untyped-def]
    print(f"seed {SEED} (SLIPWAY_CHAOS_SEED)")
    chance = random.Random(SEED)
    broken.proxy.choose = seeded_faults(SEED, SHARE)
    printers = [broken.bench.run(one) for one in _printers(chance)]
    blows: list[str] = []
    until = time.monotonic() + SECONDS
    wanted = list(BLOWS)
    while time.monotonic() < until or wanted:
        blow = wanted.pop() if wanted else chance.choice(BLOWS)
        _strike(broken, blow)
        blows.append(blow)
        time.sleep(SECONDS / 10 + chance.random() * SECONDS / 5)
    for one in printers:
        broken.bench.wait(one, 120)
    broken.proxy.choose = lambda _: None
    broken.bench.wait_answering()
    size = sum(broken.bench.check(one, "error" if one.code else "complete") for one in printers)
    assert set(transitions(broken.postgres.url, [one.id for one in printers]).values()) == {1}
    counts = {blow: blows.count(blow) for blow in BLOWS}
    print(f"{len(printers)} runs, {size} bytes of log; {broken.proxy.report()}; {counts}; lost 0, doubled 0")
    record_property("faults", dict(broken.proxy.faults))


def _strike(broken: Broken, blow: str) -> None:
    match blow:
        case "kill relay" | "kill worker":
            service = "logs" if blow == "kill relay" else "worker"
            former = broken.platform.kill(service)
            broken.platform.wait_restarted(service, former)
        case "flush Valkey":
            settings = (broken.platform.home / "environments" / "logs.json").read_text()
            redis.Redis.from_url(_redis_url(settings)).flushall()
        case _:
            broken.restart_postgres()


def _redis_url(settings: str) -> str:
    import json

    return str(json.loads(settings)["SLIPWAY_LOGS__REDIS__URL"])
