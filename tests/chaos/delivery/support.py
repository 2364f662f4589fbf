"""A platform whose worker reaches it only through what a test breaks."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from slipway_testing.faults import FaultProxy
from slipway_testing.git_servers import GitHttpServer
from tests.chaos.delivery.project import printer
from tests.e2e.support.api import FINAL, Api, Json
from tests.e2e.support.repository import Checkout, git

PROJECT = Path(__file__).with_name("project")
SIZE = os.environ.get("SLIPWAY_CHAOS", "")
R = TypeVar("R")


def sized(quick: float, ci: float, full: float) -> float:
    """A duration or a number by how much chaos is wanted: SLIPWAY_CHAOS is empty, `ci` or `full`."""
    return {"ci": ci, "full": full}.get(SIZE, quick)


class Background:
    """An event loop of its own in a thread, for servers beside tests that block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R], timeout: float = 60) -> R:
        """Run in the loop and wait for the result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def proxy_to(port: int, **options: Any) -> Iterator[FaultProxy]:
    """A fault proxy that serves beside the test."""
    background = Background()
    proxy = FaultProxy(port, **options)
    background.run(proxy.start())
    try:
        yield proxy
    finally:
        background.run(proxy.stop())
        background.close()


@dataclass
class Printer:
    """What a run of `printer.py` is told."""

    seed: int
    kind: str = "text"
    lines: int = 1000
    per_second: int = 0
    outputs: int = 2
    output_bytes: int = 100_000
    code: int = 0
    id: str = field(default="", init=False)

    def parameters(self) -> dict[str, Any]:
        """As the API takes them."""
        return {
            name.replace("_", "-"): getattr(self, name)
            for name in ("seed", "kind", "lines", "per_second", "outputs", "output_bytes", "code")
        }

    def log(self) -> bytes:
        """All that it prints."""
        return b"".join(printer.printed(self.seed, self.kind, self.lines))


class Bench:
    """A project on a platform, and checks that nothing of a run is lost or doubled."""

    def __init__(self, api: Api, git_server: GitHttpServer, folder: Path) -> None:
        self.api = api
        remote = git_server.create("chaos")
        folder.mkdir()
        for file in PROJECT.iterdir():
            if file.is_file():
                (folder / file.name).write_bytes(file.read_bytes())
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "remote", "add", "origin", str(remote))
        checkout = Checkout(folder)
        self.commit = checkout.commit("Print")
        checkout.push()
        self.project = str(api.post("projects/", {"name": f"chaos-{uuid4().hex[:6]}"})["id"])
        linked = api.call("PUT", f"projects/{self.project}/repository/", json={"url": git_server.url("chaos")})
        assert linked.status_code == 200, linked.text
        assert api.post(f"projects/{self.project}/fetch/")["errors"] == []

    def run(self, wanted: Printer, **more: Any) -> Printer:
        """Start a run."""
        created = self.api.run(self.project, self.commit, "printer", parameters=wanted.parameters(), **more)
        wanted.id = str(created["id"])
        return wanted

    def wait_answering(self, timeout: float = 60) -> None:
        """Wait until the API answers: a service that was killed may still be starting."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(httpx.HTTPError):
                if self.api.call("GET", f"projects/{self.project}/").status_code == 200:
                    return
            assert time.monotonic() < deadline, f"the API does not answer within {timeout:g} s"
            time.sleep(0.2)

    def wait(self, wanted: Printer, timeout: float, statuses: frozenset[str] = FINAL) -> Json:
        """Wait for a run, whatever the API answers meanwhile."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.look(wanted)
            if found is not None and found["status"] in statuses:
                return found
            assert time.monotonic() < deadline, f"{wanted} is {found and (found['status'], found['status_detail'])}"
            time.sleep(0.3)

    def look(self, wanted: Printer) -> Json | None:
        """A run as the API shows it; None while it does not answer."""
        try:
            answer = self.api.call("GET", f"executions/{wanted.id}/")
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def wait_detail(self, wanted: Printer, text: str, timeout: float) -> Json:
        """Wait until the status detail of a run holds `text`."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.look(wanted)
            if found is not None and text in found["status_detail"]:
                return found
            assert time.monotonic() < deadline, f"{wanted} never said {text!r}: {found and found['status_detail']!r}"
            assert found is None or found["status"] not in FINAL, f"{wanted} has ended as {found['status']}"
            time.sleep(0.2)

    def check(self, wanted: Printer, status: str = "complete") -> int:
        """Assert that all of it arrived, once; the bytes of its log."""
        found = self.api.execution(wanted.id)
        story = f"{wanted}\n{self.api.story(found)}"
        assert found["status"] == status, story
        assert found["attempt_count"] == 1, f"it was run again: {story}"
        raw, expected = self.api.raw_log(found), wanted.log()
        assert hashlib.sha256(raw).hexdigest() == hashlib.sha256(expected).hexdigest(), (
            f"{len(raw)} bytes of {len(expected)}, equal up to {_common(raw, expected)}: {story}"
        )
        times = [one["time"] for one in self.api.events(found, limit=0)["events"] if one["stream"] == "stdout"]
        assert times == sorted(set(times)), story
        if wanted.kind == "text":
            assert found["cumulative_metadata"]["step"] == (printer.records(wanted.lines) - 1) * 50, story
        outputs = self.api.outputs(found)
        assert set(outputs) == {f"files/{n}.bin" for n in range(wanted.outputs)}, story
        for number in range(wanted.outputs):
            content = printer.output(wanted.seed, number, wanted.output_bytes)
            assert outputs[f"files/{number}.bin"]["sha256"] == hashlib.sha256(content).hexdigest(), story
            assert self.api.output(found, f"files/{number}.bin") == content
        endings = [line for line in self.api.status_lines(found) if line.startswith("Exit code ")]
        assert len(endings) <= 1, story
        return len(raw)


def transitions(database_url: str, execution_ids: list[str]) -> dict[str, int]:
    """How many final transitions each execution has."""
    import asyncpg

    async def ask() -> dict[str, int]:
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch(
            "SELECT execution_id, count(*) AS n FROM scheduler.transitions WHERE execution_id = ANY($1::uuid[])"
            " AND after IN ('complete', 'error', 'stopped', 'crashed') GROUP BY execution_id",
            execution_ids,
        )
        await connection.close()
        return {str(row["execution_id"]): row["n"] for row in rows}

    return asyncio.run(ask())


def _common(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
