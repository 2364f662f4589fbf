"""Moves of an alias under load: a process that sends requests, and what its answers say about each move."""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

_END_SECONDS = 60.0
_READ_BYTES = 2**28


@dataclass(frozen=True)
class Move:
    """A move to a version: when it was called for and when it was confirmed, in monotonic seconds."""

    called: float
    confirmed: float
    version: str


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

    @property
    def p99(self) -> float:
        """Until the last answer of the old version, of 99 % of the moves."""
        return percentile(self.last_old, 0.99)

    def __str__(self) -> str:
        failed = f"{len(self.failures)} failed" + (f" ({self.failures[0]})" if self.failures else "")
        return (
            f"{len(self.confirmed)} moves, {self.sent:,} requests, {failed}, {self.late} from the old version after "
            f"the confirmation; call to confirmation p50 {statistics.median(self.confirmed):.1f} ms, "
            f"p99 {percentile(self.confirmed, 0.99):.1f} ms; call to last old answer "
            f"p50 {statistics.median(self.last_old):.1f} ms, p99 {self.p99:.1f} ms, max {max(self.last_old):.1f} ms"
        )


class RunningLoad:
    """Requests that go on until `report`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def report(self, moves: Sequence[Move]) -> Report:
        """End the load and hold its answers against the moves."""
        async with asyncio.timeout(_END_SECONDS):
            text, _ = await self._process.communicate(b"")  # closes its standard input
        found = json.loads(text)
        last_old, late = _old_answers(moves, found["answers"])
        confirmed = [(one.confirmed - one.called) * 1000 for one in moves]
        return Report(found["sent"], found["failures"], late, last_old, confirmed)


@asynccontextmanager
async def requests_at(host: str, port: int, path: str, rate: float, key: str) -> AsyncIterator[RunningLoad]:
    """GET requests with a key, so many a second, half on new connections and half on kept ones, in another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "slipway_testing.router_load", host, str(port), path, str(rate), key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_READ_BYTES,
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"running", "no connection could be opened"
        yield RunningLoad(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    return sorted(values)[round(share * (len(values) - 1))]


def _old_answers(moves: Sequence[Move], answers: Sequence[tuple[float, float, str]]) -> tuple[list[float], int]:
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
