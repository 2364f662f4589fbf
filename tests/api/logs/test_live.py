"""The live stream that browsers read (server-sent events), on a real server."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx

from slipway_kit.service import Supervisor
from slipway_logs.spec import SPEC
from tests.api.logs.harness import Attempt, Served, World, end_frame, frame, relay_settings, sse_events


async def finish(served: Served, attempt: Attempt, *last: str) -> None:
    first = len(attempt.lines)
    attempt.print(*last)
    await served.send(attempt, *attempt.frames(first), end_frame(len(attempt.lines)))
    await served.world.end(attempt, lines=len(attempt.lines))
    await served.world.set_status(attempt.execution_id, "complete")


async def test_lines_arrive_at_once_and_end_comes_after_the_last(served: Served) -> None:
    token = await served.world.add_user("secret")
    attempt = await served.world.add_attempt()
    attempt.print("a", "b")
    await served.send(attempt, *attempt.frames())
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    async with asyncio.timeout(20), served.stream(attempt.execution_id, token) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = sse_events(response)
        cursor, kind, lines = await anext(events)
        assert (cursor, kind) == ("2", "lines")
        assert [(line["line"], line["stream"], line["message"]) for line in lines] == [
            (0, "stdout", "a"),
            (1, "stdout", "b"),
        ]
        await asyncio.sleep(0.3)  # until the stream waits for news
        for n in range(2, 12):
            await served.send(attempt, frame([b"line %d\n" % n], n))
            attempt.print(f"line {n}")
            sent = loop.time()
            _, _, lines = await anext(events)
            delays.append(loop.time() - sent)
            assert [line["message"] for line in lines] == [f"line {n}"]
        await finish(served, attempt, "the last line")
        rest = [(kind, lines) async for _, kind, lines in events]
        assert [line["message"] for kind, lines in rest if kind == "lines" for line in lines] == ["the last line"]
        assert [kind for kind, _ in rest][-1] == "end"
    assert sorted(delays)[len(delays) // 2] < 0.1, delays


async def test_a_reader_comes_back_where_it_was(served: Served) -> None:
    token = await served.world.add_user("secret")
    first = await served.world.add_attempt()
    second = await served.world.add_attempt(first.execution_id, number=2)
    first.print("a", "b", "c")
    await served.send(first, *first.frames())
    await served.world.end(first, lines=3)
    await finish(served, second, "d", "e")
    for query, headers, expected in (
        ("", {}, [0, 1, 2, 3, 4]),
        ("?from=2", {}, [2, 3, 4]),
        ("?from=1", {"Last-Event-ID": "4"}, [4]),
        ("?from=9", {}, []),
    ):
        async with asyncio.timeout(10), served.stream(first.execution_id, token, query, **headers) as response:
            events = [event async for event in sse_events(response)]
        assert [line["line"] for _, kind, lines in events if kind == "lines" for line in lines] == expected
        assert [kind for _, kind, _ in events][-1] == "end"


async def test_who_may_look(served: Served) -> None:
    attempt = await served.world.add_attempt()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await served.world.add_user("mine", user_id=1)
    await served.world.add_user("stranger", user_id=2, sees=False)
    await served.world.add_user("expired", user_id=3, expires=yesterday)
    await served.world.set_status(attempt.execution_id, "complete")
    path = f"/api/v1/streams/executions/{attempt.execution_id}/log/"
    for token, status in (("mine", 200), ("stranger", 404), ("expired", 401), ("unknown", 401)):
        async with served.stream(attempt.execution_id, token) as response:
            assert response.status_code == status
    assert (await served.http.get(served.url("public", path))).status_code == 401
    session = httpx.Cookies({"slipway_session": "mine"})
    async with httpx.AsyncClient(cookies=session) as browser:
        assert (await browser.get(served.url("public", path))).status_code == 200
    async with served.stream(uuid4(), "mine") as response:
        assert response.status_code == 404
    await served.world.admin.execute("UPDATE gateway_pub.token_v1 SET revoked_at = now()")
    async with served.stream(attempt.execution_id, "mine") as response:
        assert response.status_code == 401


async def test_a_slow_reader_holds_up_nobody(served: Served) -> None:
    token = await served.world.add_user("secret")
    attempt = await served.world.add_attempt()
    line = b"x" * 1000 + b"\n"
    async with asyncio.timeout(30), served.stream(attempt.execution_id, token) as slow:
        assert slow.status_code == 200, "and from now on nothing of it is read"

        async def read_all() -> int:
            count = 0
            async with served.stream(attempt.execution_id, token) as quick:
                async for _, kind, lines in sse_events(quick):
                    count += len(lines) if kind == "lines" else 0
            return count

        reader = asyncio.create_task(read_all())
        for first in range(0, 6_000, 60):
            await served.send(attempt, frame([line] * 60, first))
        await served.send(attempt, end_frame(6_000))
        await served.world.end(attempt, lines=6_000)
        await served.world.set_status(attempt.execution_id, "complete")
        assert await reader == 6_000
        count = 0
        async for _, kind, lines in sse_events(slow):
            count += len(lines) if kind == "lines" else 0
        assert count == 6_000, "it reads the rest from the archive"


async def test_stopping_the_service_ends_the_streams(world: World, database_url: str, valkey_url: str) -> None:
    ports = {"public_port": 0, "workers_port": 0, "internal_port": 0}
    supervisor = Supervisor([(SPEC, relay_settings(world, database_url, valkey_url, http=ports))])
    token = await world.add_user("secret")
    attempt = await world.add_attempt()
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(timeout=20) as http:
        async with supervisor.running():
            url = f"http://127.0.0.1:{supervisor.ports['logs']['public']}"
            path = f"/api/v1/streams/executions/{attempt.execution_id}/log/"
            request = http.build_request("GET", url + path, headers={"Authorization": f"Token {token}"})
            response = await http.send(request, stream=True)
            assert response.status_code == 200
            started = loop.time()
        assert [event async for event in sse_events(response)] == []
        await response.aclose()
        assert loop.time() - started < 5


async def test_health_and_metrics(served: Served) -> None:
    attempt = await served.world.add_attempt()
    await served.send(attempt, frame([b"a\n"], 0), end_frame(1))
    await served.until_durable(attempt, 1, seconds=3)
    assert (await served.http.get(served.url("internal", "/readyz"))).status_code == 200
    text = (await served.http.get(served.url("internal", "/metrics"))).text
    assert "slipway_logs_ingested_lines_total 1.0" in text
    assert "slipway_logs_undurable_attempts" in text
