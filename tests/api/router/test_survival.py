"""Routers that are killed, and builders that go away: requests are served by the truth, or by the last one known."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.pods import Pod
from slipway_testing.router_process import RouterProcess
from slipway_testing.wire import Wire
from tests.api.router.conftest import ENGINES
from tests.api.router.support import Site


@pytest.fixture(params=ENGINES)
async def own(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A router of the test's own, not started yet."""
    builder = RoutingNeighbour()
    builder.put()
    async with ServedApp(builder.app) as app, Pod("one") as one, Pod("two") as two:
        router = RouterProcess(builder, app.url, tmp_path, request.param, report_seconds="1", patience_seconds="1")
        try:
            yield Site(builder, router, one, two, app)
        finally:
            await router.stop()


async def _version(site: Site) -> str | None:
    return (await site.router.get(f"{site.path('production')}/echo")).header("x-slipway-version")


async def _refused(site: Site) -> bool:
    try:
        async with Wire(site.router.port):
            return False
    except ConnectionError:
        return True


async def test_a_router_killed_and_started_again_serves_the_truth(own: Site) -> None:
    await own.router.start()
    await own.router.until_ready()
    await own.put(own.route("production", own.first()))
    assert await _version(own) == "v1"
    engines = own.router.engine_pids
    await own.router.signal(signal.SIGKILL)
    async with asyncio.timeout(5):
        while any(psutil.pid_exists(pid) for pid in engines):
            await asyncio.sleep(0.01)
    assert await _refused(own)
    own.builder.put(own.route("production", own.second()))
    await own.router.start()
    await own.router.until_ready()
    assert await _version(own) == "v2"


async def test_a_router_ends_by_itself_and_leaves_no_process(own: Site) -> None:
    await own.router.start()
    await own.router.until_ready()
    engines = own.router.engine_pids
    began = time.monotonic()
    await own.router.stop()
    assert time.monotonic() - began < 8
    assert not any(psutil.pid_exists(pid) for pid in engines)


async def test_the_last_table_serves_while_the_builder_is_away(own: Site) -> None:
    await own.router.start()
    await own.router.until_ready()
    await own.put(own.route("production", own.first()), own.key("k"))
    await own.builder_app.stop()
    for _ in range(5):
        assert await _version(own) == "v1"
        await asyncio.sleep(0.1)
    assert (await own.router.health("/readyz") or (0, ""))[0] == 200
    counted = own.builder.requests(own.v1)
    own.builder.put(own.route("production", own.second()))
    await own.builder_app.start()
    await own.builder.confirmed(own.router.router_id, own.builder.revision)
    assert await _version(own) == "v2"
    async with asyncio.timeout(5):
        while own.builder.requests(own.v1) < counted + 5:
            await asyncio.sleep(0.05)


async def test_a_router_that_starts_without_the_builder_waits_and_then_serves_the_saved_table(own: Site) -> None:
    await own.router.start()
    await own.router.until_ready()
    await own.put(own.route("production", own.first()))
    async with asyncio.timeout(10):
        while own.path("production") not in await asyncio.to_thread(_read, own.router.state_dir / "table.json"):
            await asyncio.sleep(0.05)
    assert (own.router.state_dir / "table.json").stat().st_mode & 0o777 == 0o600
    await own.router.stop()
    await own.builder_app.stop()
    await own.router.start()
    async with asyncio.timeout(10):
        while (said := await own.router.health("/readyz")) is None:
            await asyncio.sleep(0.02)
    assert said[0] == 503
    assert "no routing table yet" in said[1]
    await own.router.until_ready()
    assert await _version(own) == "v1"
    own.builder.put(own.route("production", own.second()))
    await own.builder_app.start()
    await own.builder.confirmed(own.router.router_id, own.builder.revision)
    assert await _version(own) == "v2"


@pytest.mark.parametrize("later", [-15, 0, 3])
async def test_a_builder_that_came_back_with_another_table_is_believed(own: Site, later: int) -> None:
    """Whatever its revision: numbers that come after a restored backup were in use before."""
    await own.router.start()
    await own.router.until_ready()
    await own.put(own.route("production", own.first()), own.route("canary", own.first()))
    for _ in range(20):
        await own.put(own.route("production", own.first()))
    await own.builder_app.stop()
    own.builder.restore(own.builder.revision + later, own.route("production", own.second()))
    await own.builder_app.start()
    async with asyncio.timeout(10):
        while await _version(own) != "v2":
            await asyncio.sleep(0.05)
    assert (await own.router.get(f"{own.path('canary')}/echo")).status == 404
    await own.put(own.route("production", own.first()))
    assert await _version(own) == "v1"


async def test_a_token_that_is_not_known_is_said(own: Site) -> None:
    own.builder.token = "another"
    await own.router.start()
    async with asyncio.timeout(20):
        while (said := await own.router.health("/readyz")) is None or "401" not in said[1]:
            await asyncio.sleep(0.05)
    assert said[0] == 503
    assert await _refused(own)


@pytest.mark.haproxy
async def test_a_killed_haproxy_is_back_at_once_with_the_current_table(tmp_path: Path) -> None:
    builder = RoutingNeighbour()
    builder.put()
    async with ServedApp(builder.app) as app, Pod("one") as one, Pod("two") as two:
        site = Site(builder, RouterProcess(builder, app.url, tmp_path, "haproxy"), one, two, app)
        await site.router.start()
        try:
            await site.router.until_ready()
            await site.put(site.route("production", site.first()))
            for number in range(3):
                os.kill(site.router.engine_pids[0], signal.SIGKILL)
                wanted = (site.first(), site.second())[number % 2]
                moving = asyncio.create_task(site.put(site.route("production", wanted)))
                began = time.monotonic()
                # The listening socket is the router's own: a new connection waits, it is not refused.
                await _version(site)
                assert time.monotonic() - began < 5
                await moving
                assert await _version(site) == wanted.version
            said = await site.router.health("/metrics")
            assert said is not None
            assert 'slipway_router_engine_restarts_total{engine="haproxy"} 3' in said[1]
        finally:
            await site.router.stop()


@pytest.mark.haproxy
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights away")
async def test_haproxy_has_no_rights_of_root(own: Site) -> None:
    await own.router.start()
    await own.router.until_ready()
    await own.put(own.route("production", own.first()))
    assert await _version(own) == "v1"
    for pid in own.router.engine_pids:
        engine = psutil.Process(pid)
        assert 0 not in engine.uids()
        assert 0 not in engine.gids()
        assert Path(f"/proc/{pid}/status").read_text().count("CapEff:\t0000000000000000") == 1
    await asyncio.sleep(1.5)
    assert own.builder.requests(own.v1) == 1, "it reaches the socket for its reports"


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
