"""Moves of an alias under load: a process that sends requests, and what its answers say about each move."""

import asyncio
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway_testing.tools import find_tool

_SOURCE = Path(__file__).with_name("router_load.go")
_BUILT = Path(".cache")
_BUILD_SECONDS = 300.0
_NICENESS = -10
_END_SECONDS = 60.0
_READ_BYTES = 2**28


@dataclass(frozen=True)
class Move:
    """A move to a version: when it was called for and when it was confirmed, in monotonic seconds."""

    called: float
    confirmed: float
    version: str
    routers: float = 0.0
    """Seconds of that for which the builder waited for the routers."""


@dataclass(frozen=True)
class Report:
    """What clients met while an alias moved; times in milliseconds from the call."""

    sent: int
    failures: Sequence[str]
    late: int
    """Answers of the old version to requests that were sent after the confirmation."""
    last_old: Sequence[float]
    """Of each move, until the last answer of the old version was read."""
    confirmed: Sequence[float]
    routers: Sequence[float]
    """The part of it in which the builder waited for the routers."""

    @property
    def p99(self) -> float:
        """Until the last answer of the old version, of 99 % of the moves."""
        return percentile(self.last_old, 0.99)

    def __str__(self) -> str:
        failed = f"{len(self.failures)} failed" + (f" ({self.failures[0]})" if self.failures else "")
        return (
            f"{len(self.confirmed)} moves, {self.sent:,} requests, {failed}, {self.late} from the old version after "
            f"the confirmation; call to confirmation p50 {statistics.median(self.confirmed):.1f} ms, "
            f"p99 {percentile(self.confirmed, 0.99):.1f} ms{self._routers()}; call to last old answer "
            f"p50 {statistics.median(self.last_old):.1f} ms, p99 {self.p99:.1f} ms, max {max(self.last_old):.1f} ms"
        )

    def _routers(self) -> str:
        if not any(self.routers):
            return ""
        p99 = percentile(self.routers, 0.99)
        return f", of which waiting for routers p50 {statistics.median(self.routers):.1f} ms, p99 {p99:.1f} ms"


class RunningLoad:
    """Requests that go on until `report`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def report(self, moves: Sequence[Move]) -> Report:
        """End the load and hold its answers against the moves."""
        async with asyncio.timeout(_END_SECONDS):
            text, _ = await self._process.communicate(b"")  # closes its standard input
        found = json.loads(text)
        last_old, late = old_answers(moves, found["answers"])
        confirmed = [(one.confirmed - one.called) * 1000 for one in moves]
        routers = [one.routers * 1000 for one in moves]
        return Report(found["sent"], found["failures"], late, last_old, confirmed, routers)


@asynccontextmanager
async def requests_at(host: str, port: int, path: str, rate: float, key: str) -> AsyncIterator[RunningLoad]:
    """GET requests with a key, so many a second, half on new connections and half on kept ones, in another process.

    It is the measuring instrument: an answer that waits for it counts as late. Hence the Go program where Go is
    installed, and for root a raised priority.
    """
    program = await asyncio.to_thread(_program)
    process = await asyncio.create_subprocess_exec(
        *(*program, host, str(port), path, str(rate), key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_READ_BYTES,
    )
    gc.collect()
    gc.freeze()  # as services do: where a builder runs in this process, collections would hold moves up
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"running", "no connection could be opened"
        yield RunningLoad(process)
    finally:
        gc.unfreeze()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _program() -> list[str]:
    raised = ["nice", "-n", str(_NICENESS)] if os.geteuid() == 0 else []
    go = find_tool("go")
    if go is None:
        return [*raised, sys.executable, "-m", "slipway_testing.router_load"]
    built = _BUILT.absolute() / f"router-load-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]}"
    if not built.exists():
        built.parent.mkdir(exist_ok=True)
        new = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [go, "build", "-ldflags=-s -w", "-o", str(new), str(_SOURCE)],
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
            timeout=_BUILD_SECONDS,
        )
        new.replace(built)
    return [*raised, str(built)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[round(share * (len(values) - 1))]


def old_answers(moves: Sequence[Move], answers: Sequence[tuple[float, float, str]]) -> tuple[list[float], int]:
    """Milliseconds to the last old answer of each move, and answers that should have been new."""
    ordered = sorted(answers, key=lambda one: one[1])
    last_old, late, position = [], 0, 0
    for index, move in enumerate(moves):
        ends = moves[index + 1].called if index + 1 < len(moves) else float("inf")
        last = move.called
        while position < len(ordered) and ordered[position][1] < ends:
            sent, read, served = ordered[position]
            position += 1
            if read >= move.called and served != move.version:
                last = max(last, read)
                late += sent >= move.confirmed
        last_old.append((last - move.called) * 1000)
    return last_old, late
