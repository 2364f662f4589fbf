"""Endpoints that sleep: requests are counted as they come, wait until a replica runs, and are told when none does."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from slipway_kit.ids import new_id
from slipway_schemas.inference.routing import Backend
from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.pods import Pod
from slipway_testing.ports import unused_port
from slipway_testing.router_process import RouterProcess
from slipway_testing.wire import Wire, WireAnswer, request
from tests.api.router.conftest import ENGINES
from tests.api.router.support import Site

WAKE_SECONDS = 4.0
ASLEEP_SECONDS = 2.5
BODY = b"a picture of a digit " * 20_000


@pytest_asyncio.fixture(params=ENGINES)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A router that waits for sleeping endpoints for a few seconds; the first pod is not there yet."""
    builder = RoutingNeighbour()
    builder.put()
    async with ServedApp(builder.app) as app, Pod("two") as two:
        sleeping = Pod("one")
        sleeping.port = unused_port()
        router = RouterProcess(
            builder, app.url, tmp_path, cast(str, request.param), report_seconds="1", timeouts__wake=str(WAKE_SECONDS)
        )
        await router.start()
        try:
            await router.until_ready()
            yield Site(builder, router, sleeping, two, app)
        finally:
            await router.stop()


def waking(site: Site, weight: int = 100) -> Backend:
    """The first version, whose endpoint may be asleep."""
    return site.first(weight).model_copy(update={"wakes": site.v1})


async def load(site: Site) -> int:
    """What the autoscaler hears."""
    said = await site.router.health(f"/load/{site.v1}")
    assert said is not None
    assert said[0] == 200, said
    return cast(int, json.loads(said[1])["requests"])


async def sent(site: Site, data: bytes) -> tuple[WireAnswer, float]:
    """The answer to a request, and how long it took."""
    began = time.monotonic()
    async with Wire(site.router.port, timeout=WAKE_SECONDS + 10) as wire:
        await wire.send(data)
        return await wire.answer(), time.monotonic() - began


async def test_requests_wait_until_a_replica_runs_and_count_from_their_arrival(site: Site) -> None:
    closed = site.route("closed", waking(site), public=False)
    await site.put(site.route("v1", waking(site)), closed, site.key("secret"))
    path = site.path("v1")
    assert await load(site) == 0
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(BODY[:5000]), BODY[:5000]) for _ in range(3)) + b"0\r\n\r\n"
    requests = [
        request("GET", f"{path}/echo"),
        request("POST", f"{path}/echo", body=BODY),
        request("PUT", f"{path}/echo", "Transfer-Encoding: chunked") + chunked,
        request("GET", f"{path}/events"),
        request("GET", f"{site.path('closed')}/echo", "Authorization: Bearer secret"),
        # One after the other on one connection.
        request("GET", f"{path}/echo") + request("POST", f"{path}/echo", body=b"second"),
    ]
    tasks = [asyncio.create_task(sent(site, data)) for data in requests]
    try:
        await asyncio.sleep(ASLEEP_SECONDS)
        assert not any(task.done() for task in tasks)
        assert await load(site) == len(requests)
        async with site.one:
            answers = await asyncio.gather(*tasks)
            assert [answer.status for answer, _ in answers] == [200] * len(requests)
            assert all(ASLEEP_SECONDS <= seconds < ASLEEP_SECONDS + 2 for _, seconds in answers), answers
            documents = [answer.json() if number != 3 else {} for number, (answer, _) in enumerate(answers)]
            assert documents[1]["body_sha256"] == hashlib.sha256(BODY).hexdigest()
            assert documents[2]["body_bytes"] == 15_000
            assert answers[3][0].body.count(b"data: ") == 5
            assert all(answer.header("x-slipway-version") == "v1" for answer, _ in answers)
            assert "secret" not in str(site.one.seen)
            # What came lately still counts, so that nobody who asks now and then misses it.
            assert await load(site) >= len(requests)
            async with asyncio.timeout(25):
                while await load(site):
                    await asyncio.sleep(0.2)
            slow = asyncio.create_task(sent(site, request("GET", f"{path}/slow-500")))
            await asyncio.sleep(0.2)
            assert await load(site) == 1
            assert (await slow)[0].status == 200
    finally:
        for task in tasks:
            task.cancel()


async def test_who_has_waited_too_long_is_told_so_and_may_try_again(site: Site) -> None:
    await site.put(site.route("v1", waking(site)))
    path = f"{site.path('v1')}/echo"
    for answer, seconds in await asyncio.gather(
        sent(site, request("GET", path)), sent(site, request("POST", path, body=BODY))
    ):
        assert (answer.status, answer.json()["code"]) == (503, "endpoint_asleep")
        assert answer.header("content-type") == "application/problem+json"
        assert answer.header("retry-after") == "30"
        assert WAKE_SECONDS - 0.6 < seconds < WAKE_SECONDS + 2


async def test_a_request_that_was_sent_is_not_sent_again(site: Site) -> None:
    await site.put(site.route("v1", waking(site)))
    async with site.one:
        answer, seconds = await sent(site, request("GET", f"{site.path('v1')}/drop"))
        assert answer.status == 502
        assert seconds < 1
        assert len(site.one.seen) == 1


async def test_others_wait_for_nobody_and_are_not_counted(site: Site) -> None:
    await site.put(site.route("v1", site.first()), site.route("v2", site.second()))
    assert (await site.router.get(f"{site.path('v2')}/echo")).status == 200
    answer, seconds = await sent(site, request("GET", f"{site.path('v1')}/echo"))
    assert (answer.status, answer.json()["code"]) == (503, "endpoint_unreachable")
    assert seconds < WAKE_SECONDS
    assert await load(site) == 0


async def test_a_canary_wakes_the_version_that_it_draws_and_no_other(site: Site) -> None:
    await site.put(site.route("production", site.second(100), waking(site, 0)))
    assert (await site.router.get(f"{site.path('production')}/echo")).header("x-slipway-version") == "v2"
    assert await load(site) == 0
    await site.put(site.route("production", site.second(0), waking(site, 100)))
    waiting = asyncio.create_task(sent(site, request("GET", f"{site.path('production')}/echo")))
    try:
        await asyncio.sleep(0.3)
        assert await load(site) == 1
        async with site.one:
            assert (await waiting)[0].header("x-slipway-version") == "v1"
    finally:
        waiting.cancel()


async def test_only_ids_are_asked_for(site: Site) -> None:
    for path in ("/load/", "/load/x", f"/load/{new_id()};show%20info", f"/load/{new_id()}/more"):
        assert ((await site.router.health(path)) or (0, ""))[0] == 404
