"""Notices of four clouds, each answered by a small metadata service over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from slipway_kit.clock import SystemClock
from slipway_kit.tasks import cancel_and_wait
from slipway_runtime.layout import RunLimits
from slipway_testing.neighbours.serving import ServedApp
from slipway_worker.attempts.plan import ladder_within
from slipway_worker.machine.preemption import Notice, NoticeSource, PreemptionWatch, notice_source

DEADLINE = datetime(2026, 1, 1, 8, 22, tzinfo=UTC)


@dataclass
class Metadata:
    """What the metadata services of all four clouds would say of one machine."""

    preempted: bool = False
    tokens: list[str] = field(default_factory=list)
    held: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> list[Route]:
        return [
            Route("/latest/api/token", self.aws_token, methods=["PUT"]),
            Route("/latest/meta-data/spot/instance-action", self.aws_action),
            Route("/computeMetadata/v1/instance/preempted", self.gcp),
            Route("/metadata/instance/compute/name", self.azure_name),
            Route("/metadata/scheduledevents", self.azure_events),
            Route("/openstack/latest/meta_data.json", self.openstack),
        ]

    async def aws_token(self, request: Request) -> Response:
        assert request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        self.tokens.append(f"token-{len(self.tokens)}")
        return PlainTextResponse(self.tokens[-1])

    async def aws_action(self, request: Request) -> Response:
        if not self.tokens or request.headers.get("x-aws-ec2-metadata-token") != self.tokens[-1]:
            return PlainTextResponse("unauthorized", 401)
        if not self.preempted:
            return PlainTextResponse("not found", 404)
        return JSONResponse({"action": "terminate", "time": "2026-01-01T08:22:00Z"})

    async def gcp(self, request: Request) -> Response:
        if request.headers.get("metadata-flavor") != "Google":
            return PlainTextResponse("forbidden", 403)
        if request.query_params.get("wait_for_change") == "true" and request.query_params["last_etag"] == self.etag:
            self.held += 1
            await asyncio.wait_for(self.changed.wait(), 10)
        return PlainTextResponse(str(self.preempted).upper(), headers={"ETag": self.etag})

    @property
    def etag(self) -> str:
        return f"e{int(self.preempted)}"

    async def azure_name(self, request: Request) -> Response:
        assert request.headers["metadata"] == "true"
        return PlainTextResponse("vm-1")

    async def azure_events(self, request: Request) -> Response:
        if request.headers.get("metadata") != "true":
            return PlainTextResponse("bad request", 400)
        other = {"EventType": "Preempt", "Resources": ["vm-2"], "NotBefore": "Thu, 01 Jan 2026 07:00:00 GMT"}
        reboot = {"EventType": "Reboot", "Resources": ["vm-1"], "NotBefore": "Thu, 01 Jan 2026 07:00:00 GMT"}
        mine = {"EventType": "Preempt", "Resources": ["vm-1"], "NotBefore": "Thu, 01 Jan 2026 08:22:00 GMT"}
        return JSONResponse({"DocumentIncarnation": 1, "Events": [other, reboot, *([mine] if self.preempted else [])]})

    async def openstack(self, _request: Request) -> Response:
        meta = {"slipway_preempt_at": "2026-01-01T08:22:00Z"} if self.preempted else {}
        return JSONResponse({"uuid": "u", "meta": meta})


@pytest.fixture
async def metadata() -> AsyncIterator[tuple[Metadata, str]]:
    service = Metadata()
    async with ServedApp(Starlette(routes=service.routes())) as served:
        yield service, served.url


def source_of(provider: str, endpoint: str) -> NoticeSource:
    source = notice_source(provider, endpoint, 0.05, SystemClock())  # type: ignore[arg-type]
    assert source is not None
    return source


@pytest.mark.parametrize("provider", ["aws", "azure", "openstack"])
async def test_a_notice_comes_with_its_deadline_and_goes(metadata: tuple[Metadata, str], provider: str) -> None:
    service, url = metadata
    source = source_of(provider, url)
    assert await source.look() is None
    service.preempted = True
    notice = await source.look()
    assert notice is not None
    assert notice.deadline == DEADLINE
    assert "takes this machine back" in notice.text.replace("is taken back", "takes this machine back")
    assert "08:22:00 UTC" in notice.text
    service.preempted = False
    assert await source.look() is None
    await source.aclose()


async def test_compute_engine_holds_the_question_until_it_changes(metadata: tuple[Metadata, str]) -> None:
    service, url = metadata
    source = source_of("gcp", url)
    assert await source.look() is None
    held = asyncio.create_task(source.look())
    await asyncio.sleep(0.1)
    assert service.held == 1
    assert not held.done()
    service.preempted = True
    service.changed.set()
    notice = await held
    assert notice is not None
    left = (notice.deadline - datetime.now(UTC)).total_seconds()
    assert 25 < left <= 30
    assert (await source.look()) is notice, "the deadline moved while the notice stood"
    await source.aclose()


async def test_an_expired_token_of_ec2_is_renewed(metadata: tuple[Metadata, str]) -> None:
    service, url = metadata
    source = source_of("aws", url)
    assert await source.look() is None
    service.tokens.append("another")
    service.preempted = True
    assert await source.look() is not None
    await source.aclose()


async def test_a_file_stands_for_a_notice(tmp_path: Path) -> None:
    file = tmp_path / "preempt"
    source = source_of("openstack", f"file://{file}")
    assert await source.look() is None
    file.write_text("2026-01-01T08:22:00Z\n")
    notice = await source.look()
    assert notice is not None
    assert notice.deadline == DEADLINE
    file.write_text("")
    undated = await source.look()
    assert undated is not None
    assert 50 < (undated.deadline - datetime.now(UTC)).total_seconds() <= 60
    await source.aclose()


async def test_the_watch_tells_what_changes_and_survives_silence(metadata: tuple[Metadata, str]) -> None:
    service, url = metadata
    heard: list[Notice | None] = []
    sources = [source_of("aws", url), source_of("aws", "http://127.0.0.1:9")]
    watching, dead = (asyncio.create_task(PreemptionWatch(one, heard.append).run()) for one in sources)
    await asyncio.sleep(0.2)
    assert heard == []
    service.preempted = True
    async with asyncio.timeout(5):
        while not heard:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    service.preempted = False
    async with asyncio.timeout(5):
        while len(heard) < 2:
            await asyncio.sleep(0.02)
    assert [one is not None for one in heard] == [True, False]
    assert not dead.done()
    for task in (watching, dead):
        await cancel_and_wait(task)
    for source in sources:
        await source.aclose()


@pytest.mark.parametrize(
    ("left", "int_grace", "term_grace"), [(60, 20, 10), (15, 10, 5), (3, 2, 1), (0, 2 / 3, 1 / 3), (-5, 2 / 3, 1 / 3)]
)
def test_the_ladder_is_shortened_to_the_time_that_is_left(left: float, int_grace: float, term_grace: float) -> None:
    limits = ladder_within(RunLimits(time_limit=5), left)
    assert limits.int_grace == pytest.approx(int_grace)
    assert limits.term_grace == pytest.approx(term_grace)
    assert limits.time_limit == 5


def test_no_provider_no_source() -> None:
    assert notice_source("none", None, 5, SystemClock()) is None
