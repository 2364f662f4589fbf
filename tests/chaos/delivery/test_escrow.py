"""The store is away, or the connection breaks, when a run wants to leave its outputs: it is never run again."""

import time

import pytest

from slipway_testing.faults import Away, Fault, Passing
from tests.chaos.delivery.conftest import Broken
from tests.chaos.delivery.support import Printer, sized

pytestmark = pytest.mark.usefixtures("mended")

BIG = 80 * 1024 * 1024
PART = 16 * 1024 * 1024


class StoreOnly:
    """Breaks uploads to the store, nothing else."""

    def __init__(self, fault: Fault, times: int) -> None:
        self.fault = fault
        self.left = times

    def __call__(self, passing: Passing) -> Fault | None:
        if passing.method != "PUT" or not passing.path.startswith("/_store/") or not self.left:
            return None
        self.left -= 1
        return self.fault


@pytest.mark.timeout(sized(180, 600, 1500))
def test_the_store_is_away_at_the_end_of_a_run(broken: Broken) -> None:
    """Also when worker and gateway are killed meanwhile. Other runs of the worker go on."""
    broken.proxy.choose = StoreOnly(Fault.DROP, 10**9)
    runs = [Printer(1, lines=50, outputs=3), Printer(2, lines=50, code=7), Printer(3, lines=100_000, per_second=20)]
    for one in runs:
        broken.bench.run(one)
    detail = broken.bench.wait_detail(runs[0], "waiting for the store since", 60)["status_detail"]
    assert "3 left (300.0 kB)" in detail or "left (" in detail
    assert "next try at" in detail
    broken.bench.wait_detail(runs[1], "waiting for the store since", 60)
    began = time.monotonic()
    broken.bench.api.post(f"executions/{runs[2].id}/stop/", status=200)
    for service in ("worker", "gateway"):
        former = broken.platform.kill(service)
        broken.platform.wait_restarted(service, former)
    time.sleep(max(0.0, sized(12, 180, 600) - (time.monotonic() - began)))
    for one in runs:
        found = broken.bench.look(one)
        assert found is not None
        assert found["status"] in ("started", "stopping"), found
    broken.proxy.choose = lambda _: None
    broken.bench.wait(runs[0], 90)
    broken.bench.check(runs[0])
    broken.bench.wait(runs[1], 90)
    broken.bench.check(runs[1], "error")
    stopped = broken.bench.wait(runs[2], 90)
    assert stopped["status"] == "stopped"
    assert stopped["attempt_count"] == 1


@pytest.mark.timeout(240)
def test_the_connection_breaks_at_95_percent_of_an_upload(broken: Broken) -> None:
    """In one PUT, and in parts: of those only what is missing is sent again, also after the agent was killed."""
    broken.proxy.break_at = 0.95
    broken.proxy.choose = StoreOnly(Fault.BREAK_BODY, 1)
    single = broken.bench.run(Printer(11, lines=10, outputs=1, output_bytes=20_000_000))
    broken.bench.wait(single, 90)
    broken.bench.check(single)

    broken.proxy.bodies.clear()
    slow = _LastPartsBreak()
    broken.proxy.choose = slow
    parts = broken.bench.run(Printer(12, lines=10, outputs=1, output_bytes=BIG))
    deadline = time.monotonic() + 90
    while slow.broken < 3:
        assert time.monotonic() < deadline, broken.bench.look(parts)
        time.sleep(0.05)
    former = broken.platform.kill("worker")
    broken.platform.wait_restarted("worker", former)
    slow.breaks = False
    broken.bench.wait(parts, 120)
    broken.bench.check(parts)
    whole = [(path, size) for method, path, size in broken.proxy.bodies if method == "PUT" and size == PART]
    again = sum(size for _, size in whole) - BIG
    print(f"{BIG} bytes in parts of {PART}: {again} bytes of whole parts were sent again")
    assert again <= 0, "parts that the store had were sent again"


class _LastPartsBreak:
    """Lets the first parts pass and breaks every later one at 95 %, until told otherwise."""

    def __init__(self) -> None:
        self.passed = 0
        self.broken = 0
        self.breaks = True

    def __call__(self, passing: Passing) -> Fault | None:
        if passing.method != "PUT" or not self.breaks:
            return None
        if self.passed < 3:
            self.passed += 1
            return None
        self.broken += 1
        return Fault.BREAK_BODY


@pytest.mark.timeout(180)
@pytest.mark.parametrize("away", list(Away))
def test_the_whole_platform_is_away_for_a_worker(broken: Broken, away: Away) -> None:
    """Refused, silent, or answered by a proxy in front: the run goes on and arrives."""
    run = broken.bench.run(Printer(30 + len(away), lines=400, per_second=40))
    broken.bench.api.wait_line({"url": f"/api/v0/executions/{run.id}/", "id": run.id}, "line 20 of")
    broken.proxy.away = away
    broken.bench.wait_detail(run, "unreachable since", 40)
    broken.proxy.away = None
    broken.bench.wait(run, 90)
    broken.bench.check(run)
