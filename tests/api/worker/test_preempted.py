"""A notice from the cloud ends the runs of a worker in time, with what they have written."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited, Refusal
from slipway_testing.neighbours.platform import PlatformNeighbours
from slipway_testing.neighbours.serving import ServedApp

RunWorker = Callable[..., Awaitable[Path]]

STUBBORN = """python3 -c '
import os, signal, sys, time
def checkpoint(*_):
    open(os.environ["VH_OUTPUTS_DIR"] + "/checkpoint.txt", "w").write("epoch 3")
    print("saved", flush=True)
signal.signal(signal.SIGINT, checkpoint)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    time.sleep(0.1)
'"""


class Ec2:
    """The metadata service of a spot instance that has `seconds` left once it is taken back."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    async def token(self, _request: Request) -> Response:
        return PlainTextResponse("token")

    async def action(self, _request: Request) -> Response:
        if self.seconds is None:
            return PlainTextResponse("", 404)
        at = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return JSONResponse({"action": "terminate", "time": at.isoformat()})


@pytest.fixture
async def ec2() -> AsyncIterator[tuple[Ec2, str]]:
    service = Ec2()
    routes = [
        Route("/latest/api/token", service.token, methods=["PUT"]),
        Route("/latest/meta-data/spot/instance-action", service.action),
    ]
    async with ServedApp(Starlette(routes=routes)) as served:
        yield service, served.url


async def test_a_stubborn_run_is_ended_in_half_of_the_time_that_is_left(
    platform: PlatformNeighbours, run_worker: RunWorker, ec2: tuple[Ec2, str]
) -> None:
    service, url = ec2
    await run_worker(slots=2, preemption={"provider": "aws", "endpoint": url, "poll_seconds": 0.1})
    attempt = await platform.assign(STUBBORN)
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and b"ready" in platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    began = datetime.now(UTC)
    service.seconds = 6.0
    fact = await platform.scheduler.ended(attempt)
    # The usual ladder takes 30 seconds.
    assert (datetime.now(UTC) - began).total_seconds() < 8
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.outputs) == (EndReason.PREEMPTED, 1)
    log = platform.relay.logs[attempt]
    assert log.stream(LogStream.STDOUT) == b"ready\nsaved\n"
    assert fact.last_line == len(log.lines)
    assert any(line.startswith("EC2 takes this machine back (terminate) at ") for line in log.statuses())
    assert await platform.gateway.content(attempt, "checkpoint.txt") == b"epoch 3"
    last = platform.scheduler.syncs[-1]
    assert (last.refusal, last.free.slots, last.draining) == (Refusal.PREEMPTED, 0, True)

    late = await platform.assign("echo never")
    fact = await platform.scheduler.ended(late)
    assert fact.reason == EndReason.PREEMPTED
    assert platform.scheduler.facts_of(late, "user_code_started") == []

    service.seconds = None
    await platform.scheduler.until(lambda: platform.scheduler.syncs[-1].free.slots == 2)
    assert platform.scheduler.syncs[-1].refusal is None
    fine = await platform.assign("echo again")
    assert (await platform.scheduler.ended(fine)).reason == EndReason.SUCCESS
