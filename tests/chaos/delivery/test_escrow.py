"""The store is away, or the connection breaks, when a run wants to leave its outputs: it is never run again."""

import hashlib
import threading
import time
from uuid import uuid4

import pytest

from slipway_testing.faults import Away, Fault, Passing
from slipway_testing.s3 import S3Server
from tests.chaos.delivery.conftest import Broken
from tests.chaos.delivery.project import printer
from tests.chaos.delivery.support import SIZE, Printer, proxy_to, sized

pytestmark = pytest.mark.usefixtures("mended")

BIG = 80 * 1024 * 1024
PART = 16 * 1024 * 1024


class StoreOnly:
    """Breaks uploads to the platform's own store, nothing else."""

    def __init__(self, fault: Fault, times: int) -> None:
        self.fault = fault
        self.left = times

    def __call__(self, passing: Passing) -> Fault | None:
        if passing.method != "PUT" or not passing.path.startswith("/_store/") or not self.left:
            return None
        self.left -= 1
        return self.fault


@pytest.mark.timeout(sized(180, 600, 1500))
def test_the_store_is_away_at_the_end_of_runs(broken: Broken) -> None:
    """One completes, one fails, one is stopped; worker and gateway are killed meanwhile."""
    bench = broken.bench
    broken.proxy.choose = StoreOnly(Fault.DROP, 10**9)
    good, bad = bench.run(Printer(1, lines=50, outputs=3)), bench.run(Printer(2, lines=50, code=7))
    stopped = bench.run(Printer(3, lines=100_000, per_second=200, outputs=1000, output_bytes=1000))
    detail = bench.wait_detail(good, "waiting for the store since", 60)["status_detail"]
    assert " left (" in detail
    assert "next try at" in detail
    bench.wait_detail(bad, "waiting for the store since", 60)
    bench.api.wait_line({"url": f"/api/v0/executions/{stopped.id}/", "id": stopped.id}, "line 320 of")
    bench.api.post(f"executions/{stopped.id}/stop/", status=200)
    began = time.monotonic()
    for service in ("worker", "gateway"):
        former = broken.platform.kill(service)
        broken.platform.wait_restarted(service, former)
    time.sleep(max(0.0, sized(10, 180, 600) - (time.monotonic() - began)))
    bench.wait_answering()
    for one in (good, bad, stopped):
        found = bench.api.execution(one.id)
        assert found["status"] in ("started", "stopping"), found
    away = time.monotonic() - began
    broken.proxy.choose = lambda _: None
    for one, status in ((good, "complete"), (bad, "error"), (stopped, "stopped")):
        assert bench.wait(one, 90)["status"] == status
    bench.check(good)
    bench.check(bad, "error")
    found = bench.api.execution(stopped.id)
    kept = bench.api.outputs(found)
    assert {f"files/{n}.bin" for n in range(3)} <= set(kept)
    for number in range(3):
        content = printer.output(stopped.seed, number, stopped.output_bytes)
        assert kept[f"files/{number}.bin"]["sha256"] == hashlib.sha256(content).hexdigest()
    print(f"store away {away:.0f} s: 3 runs, {5 + len(kept)} outputs kept, none lost, none run again")


@pytest.mark.timeout(240)
def test_the_connection_breaks_at_95_percent_of_an_upload(broken: Broken) -> None:
    """In one PUT, and in parts: of those only what is missing is sent again, also after the agent was killed."""
    broken.proxy.break_at = 0.95
    broken.proxy.choose = StoreOnly(Fault.BREAK_BODY, 1)
    single = broken.bench.run(Printer(11, lines=10, outputs=1, output_bytes=20_000_000))
    broken.bench.wait(single, 90)
    broken.bench.check(single)
    assert broken.proxy.choose.left == 0

    broken.proxy.bodies.clear()
    last = _LastPartsBreak()
    broken.proxy.choose = last
    parts = broken.bench.run(Printer(12, lines=10, outputs=1, output_bytes=BIG))
    deadline = time.monotonic() + 90
    while last.broken < 3 or len(_whole_parts(broken)) < 3:
        assert time.monotonic() < deadline, broken.bench.look(parts)
        time.sleep(0.05)
    former = broken.platform.kill("worker")
    broken.platform.wait_restarted("worker", former)
    last.breaks = False
    broken.bench.wait(parts, 120)
    broken.bench.check(parts)
    again = sum(_whole_parts(broken)) - BIG
    print(
        f"{BIG} bytes in parts of {PART}, {last.broken} broken at 95 %: {again} bytes of stored parts were sent again"
    )
    assert again == 0


def _whole_parts(broken: Broken) -> list[int]:
    return [size for method, _, size in list(broken.proxy.bodies) if method == "PUT" and size == PART]


class _LastPartsBreak:
    """Lets the first parts pass and breaks every later one, until told otherwise."""

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


@pytest.mark.timeout(120)
def test_the_gateway_dies_between_upload_and_registration(broken: Broken) -> None:
    killed = threading.Event()
    former = broken.platform.process_id("gateway")

    def kill_before_registration(passing: Passing) -> None:
        if passing.path.endswith("/outputs") and not killed.is_set():
            killed.set()
            broken.platform.kill("gateway")

    broken.proxy.choose = kill_before_registration
    run = broken.bench.run(Printer(21, lines=50, outputs=2))
    assert killed.wait(60)
    broken.platform.wait_restarted("gateway", former)
    broken.bench.wait(run, 90)
    broken.bench.check(run)


@pytest.mark.s3
@pytest.mark.timeout(sized(180, 900, 1800))
@pytest.mark.parametrize("away", [Away.REFUSED, Away.UNAVAILABLE] if not SIZE else list(Away))
def test_a_connected_s3_store_is_away(broken: Broken, real_s3: S3Server, away: Away) -> None:
    """From the first byte on: the worker reaches the bucket only through what is broken."""
    api = broken.bench.api
    with proxy_to(int(real_s3.endpoint.rpartition(":")[2])) as bucket:
        bucket.away = away
        configuration = {
            "bucket": real_s3.bucket,
            "region": real_s3.region,
            "endpoint_url": real_s3.endpoint,
            "worker_endpoint_url": bucket.url,
            "access_key_id": real_s3.access_key,
            "secret_access_key": real_s3.secret_key,
        }
        project = broken.bench.project
        body = {"name": f"s3-{uuid4().hex[:6]}", "type": "s3", "project": project, "configuration": configuration}
        store = api.post("stores/", body)
        _upload_to(broken, store["id"])
        try:
            run = broken.bench.run(Printer(41, lines=20, outputs=1, output_bytes=BIG))
            broken.bench.wait_detail(run, "waiting for the store since", 240)  # silence is waited for thrice
            time.sleep(sized(5, 180, 600))
            bucket.away = None
            broken.bench.wait(run, 240)
            broken.bench.check(run)
        finally:
            _upload_to(broken, None)


def _upload_to(broken: Broken, store: str | None) -> None:
    path = f"projects/{broken.bench.project}/"
    changed = broken.bench.api.call("PATCH", path, json={"upload_store": store})
    assert changed.status_code == 200, changed.text


@pytest.mark.timeout(180)
@pytest.mark.parametrize("away", [Away.UNAVAILABLE] if not SIZE else list(Away))
def test_the_whole_platform_is_away_for_a_worker(broken: Broken, away: Away) -> None:
    """Refused, silent, or answered by a proxy in front: the run goes on and arrives."""
    run = broken.bench.run(Printer(30 + len(away), lines=800, per_second=40))
    broken.bench.api.wait_line({"url": f"/api/v0/executions/{run.id}/", "id": run.id}, "line 20 of")
    broken.proxy.away = away
    broken.bench.wait_detail(run, "unreachable since", 40)
    broken.proxy.away = None
    broken.bench.wait(run, 90)
    broken.bench.check(run)
