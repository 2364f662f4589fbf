"""What replicas write reaches the log service once, whatever is restarted, and stays when they are gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.logs import FRAME_HEADER, FrameHeader, LogStream, split_lines
from slipway_testing.neighbours.serving import ServedApp
from tests.api.builder.harness import RunningBuilder, Start

CHATTY = """
import http.server, json, os, signal, sys, threading, time
def end(*_):
    print("last words", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
def talk():
    number = 0
    while True:
        print("line", number, flush=True)
        number += 1
        time.sleep(0.02)
print("the secret is", os.environ.get("MY_SECRET"), flush=True)
print(json.dumps({"vh_metadata": {"loss": 0.5}}), flush=True)
print(json.dumps({"loss": 1}), flush=True)
threading.Thread(target=talk, daemon=True).start()
address = ("0.0.0.0", int(os.environ["VALOHAI_PORT"]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@dataclass
class SmallRelay:
    """Takes lines as the log service does; `lose` forgets what is not durable."""

    lines: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    records: dict[tuple[str, str, str], list[Any]] = field(default_factory=dict)
    durable: dict[tuple[str, str, str], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    hold_durable: bool = False
    away: bool = False

    def app(self) -> Starlette:
        path = "/internal/v1/endpoints/{endpoint}/replicas/{replica}/log/{day}"
        return Starlette(routes=[Route(path, self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        if self.away:
            return Response(status_code=503)
        key = (request.path_params["endpoint"], request.path_params["replica"], request.path_params["day"])
        lines, records = self.lines.setdefault(key, []), self.records.setdefault(key, [])
        body = await request.body()
        position = 0
        while position < len(body):
            header = FrameHeader.unpack(body, position)
            start = position + FRAME_HEADER.size
            payload = body[start : start + header.length]
            position = start + header.length
            found = [line.decode() for line in split_lines(payload)]
            if header.stream == LogStream.METADATA:
                records += json.loads(payload)[max(len(records) - header.first, 0) :]
                continue
            known = lines[header.first : header.first + len(found)]
            if header.first > len(lines):
                break  # something was lost: it is asked for again
            if known != found[: len(known)]:
                self.problems.append(f"lines from {header.first} on are not what they were")
            lines += found[len(known) :]
        if not self.hold_durable:
            self.durable[key] = len(lines)
        durable = self.durable.setdefault(key, 0)
        return JSONResponse({"next": len(lines), "durable": durable, "metadata_next": len(records)})

    def lose(self) -> int:
        lost = 0
        for key, lines in self.lines.items():
            lost += len(lines) - self.durable[key]
            del lines[self.durable[key] :]
        return lost

    def all(self, endpoint_id: Any) -> list[str]:
        """All lines of an endpoint; midnight may fall into a test."""
        found = [lines for (endpoint, _, _), lines in sorted(self.lines.items()) if endpoint == str(endpoint_id)]
        return [line.rstrip("\n") for lines in found for line in lines]

    def numbers(self, endpoint_id: Any) -> list[int]:
        return [int(line.split()[1]) for line in self.all(endpoint_id) if line.startswith("line ")]


@pytest.fixture
async def relay() -> SmallRelay:
    return SmallRelay()


@pytest.fixture
async def logs(relay: SmallRelay) -> AsyncIterator[str]:
    async with ServedApp(relay.app()) as served:
        yield served.url


async def until(condition: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def chatty(builder: RunningBuilder, seconds: float = 30) -> tuple[dict[str, Any], dict[str, Any]]:
    builder.gateway.add_commit("chatty", {"server.py": CHATTY})
    builder.gateway.secrets["MY_SECRET"] = "open sesame"
    secret = {"scope": "project", "scope_id": str(builder.project_id), "name": "s", "version": 1}
    made = await builder.version(
        await builder.deployment(),
        commit="chatty",
        command="exec python3 server.py",
        environment_variables={"MY_SECRET": {"secret": secret}},
    )
    return made, await builder.until(made["id"], "AVAILABLE", seconds)


async def test_lines_arrive_once_though_builders_end_and_marks_are_old(
    start: Start, relay: SmallRelay, logs: str, database_url: str
) -> None:
    async with start(logs=logs, ends_with_builder=False) as builder:
        _, row = await chatty(builder)
        await until(lambda: len(relay.numbers(row["id"])) > 100)
    async with start(logs=logs, ends_with_builder=False):
        seen = len(relay.numbers(row["id"]))
        await until(lambda: len(relay.numbers(row["id"])) > seen + 100)
    admin = await asyncpg.connect(database_url)
    await admin.execute("DELETE FROM builder.log_marks")  # as if it had been killed before it wrote them
    await admin.close()
    async with start(logs=logs):
        seen = len(relay.numbers(row["id"]))
        await until(lambda: len(relay.numbers(row["id"])) > seen + 100)
    numbers = relay.numbers(row["id"])
    assert numbers == list(range(len(numbers)))
    assert relay.problems == []
    assert "the secret is *****" in relay.all(row["id"])
    assert [[values for _, values in one] for one in relay.records.values()] == [[{"loss": 0.5}]]


async def test_what_the_log_service_loses_is_sent_again(start: Start, relay: SmallRelay, logs: str) -> None:
    async with start(logs=logs) as builder:
        _, row = await chatty(builder)
        await until(lambda: len(relay.numbers(row["id"])) > 50)
        relay.hold_durable = True
        seen = len(relay.numbers(row["id"]))
        await until(lambda: len(relay.numbers(row["id"])) > seen + 50)
        assert relay.lose() > 0
        relay.hold_durable = False
        await until(lambda: len(relay.numbers(row["id"])) > seen + 200)
        relay.away = True
        await asyncio.sleep(1)
        relay.away = False
        seen = len(relay.numbers(row["id"]))
        await until(lambda: len(relay.numbers(row["id"])) > seen + 100)
    numbers = relay.numbers(row["id"])
    assert numbers == list(range(len(numbers)))
    assert relay.problems == []


@pytest.mark.parametrize("kind", ["process", pytest.param("docker", marks=pytest.mark.docker)])
async def test_last_words_are_kept_when_the_version_is_gone(
    start: Start, relay: SmallRelay, logs: str, kind: str
) -> None:
    async with start(kind=TargetKind(kind), logs=logs) as builder:
        made, row = await chatty(builder, 60)
        await until(lambda: len(relay.numbers(row["id"])) > 20)
        await builder.call("DELETE", f"versions/{made['id']}")
        await until(lambda: "last words" in relay.all(row["id"]))
        numbers = relay.numbers(row["id"])
        assert numbers == list(range(len(numbers)))
        assert "the secret is *****" in relay.all(row["id"])
