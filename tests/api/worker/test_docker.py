"""Runs as containers of a real engine."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited, Failed
from slipway_testing.neighbours.platform import PlatformNeighbours

pytestmark = pytest.mark.docker

RunWorker = Callable[..., Awaitable[Path]]
IMAGE = "slipway-test/python:bookworm"


async def test_run_in_a_container(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    home = await run_worker("docker", slots=2)
    attempt = await platform.assign(
        'pwd; cat main.py; echo "$TOKEN"; echo out > /valohai/outputs/out.txt; exit 3',
        image=IMAGE,
        files={"main.py": b"print(1)\n"},
        secrets={"TOKEN": "hush-hush-secret"},
    )
    missing = await platform.assign("echo never", image="slipway-test/there-is-no-such-image:1")
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert (fact.code, fact.reason, fact.outputs) == (3, EndReason.USER_CODE, 1)
    log = platform.relay.logs[attempt]
    assert log.stream(LogStream.STDOUT) == b"/valohai/repository\nprint(1)\n*****\n"
    assert await platform.gateway.content(attempt, "out.txt") == b"out\n"
    failed = await platform.scheduler.ended(missing, timeout=90)
    assert isinstance(failed, Failed)
    assert failed.reason in {EndReason.IMAGE_MISSING, EndReason.REGISTRY_UNREACHABLE}
    await platform.scheduler.until(lambda: not list((home / "attempts").iterdir()))
