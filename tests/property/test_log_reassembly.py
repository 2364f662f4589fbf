"""Whatever happens on the way, the archive holds what was printed: each line once, in order, under rising times.

One example is a whole run on real servers: a worker prints, cuts its lines into frames, sends them to either of two
relays; answers and requests are lost, repeated and cut anew; Redis is emptied, lines are made durable at any time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_logs.archive.store import ArchiveStore
from slipway_schemas.logs import LogsAnswer, LogStream
from tests.api.logs.harness import (
    Attempt,
    Relay,
    any_redis_url,
    end_frame,
    open_relay,
    open_world,
    redis_server,
    relay_settings,
    template_database,
)

__all__ = ["any_redis_url", "redis_server", "template_database"]

_STREAMS = [LogStream.STDOUT, LogStream.STDERR, LogStream.STATUS]
_LINE = st.tuples(
    st.sampled_from(_STREAMS),
    st.sampled_from([b"same\n", b"epoch 1\r", b"\xff\xfe\n", b"\n", b"x" * 900 + b"\n", b"windows\r\n", b"\x00\n"]),
)


@dataclass(frozen=True)
class Step:
    """One thing that happens."""

    kind: str
    relay: int
    count: int
    size: int
    back: int


def _as_a_worker_cuts(lines: list[tuple[LogStream, bytes]]) -> list[tuple[LogStream, bytes]]:
    """A line never ends between `\\r` and `\\n`."""
    return [
        (stream, b"-\n" if line == b"\n" and n and lines[n - 1][1].endswith(b"\r") else line)
        for n, (stream, line) in enumerate(lines)
    ]


_STEP = st.builds(
    Step,
    kind=st.sampled_from(
        ["send"] * 6 + ["lost answer", "repeat", "gap", "restart", "flush", "flush", "flush both", "empty redis"]
    ),
    relay=st.integers(0, 1),
    count=st.integers(1, 12),
    size=st.integers(1, 5),
    back=st.integers(0, 6),
)


class Worker:
    """Sends lines from its spool. It keeps a line until it was told that the line is durable."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.next = 0
        self.durable = 0

    async def send(self, relay: Relay, first: int, end: int, size: int, *, answered: bool = True) -> None:
        frames = self.attempt.frames(max(first, self.durable), end, size=size)
        answer = await relay.send(self.attempt, *frames)
        if answered:
            self.heed(answer)

    def heed(self, answer: LogsAnswer) -> None:
        assert answer.next >= self.durable, "the relay asks for lines that it had called durable"
        assert answer.durable <= answer.next
        self.next = answer.next
        self.durable = max(self.durable, answer.durable)

    async def step(self, step: Step, relays: Sequence[Relay]) -> None:
        relay, total = relays[step.relay], len(self.attempt.lines)
        end = min(self.next + step.count, total)
        match step.kind:
            case "send":
                await self.send(relay, self.next, end, step.size)
            case "lost answer":
                await self.send(relay, self.next, end, step.size, answered=False)
            case "repeat":
                await self.send(relay, max(self.next - step.back, 0), end, step.size)
            case "gap":
                await self.send(relay, min(self.next + step.back, total), total, step.size)
            case "restart":
                self.heed(await relay.send(self.attempt))
            case "flush":
                await _flush(relay)
            case "flush both":
                await asyncio.gather(*(_flush(one) for one in relays))
            case "empty redis":
                # While a flush is under way: what it then writes is behind the back of the tail.
                await asyncio.gather(_flush(relay), relay.context.redis.flushall())

    async def finish(self, relay: Relay) -> None:
        total = len(self.attempt.lines)
        for _ in range(50):
            await self.send(relay, self.next, total, 3)
            if self.next == total:
                await relay.send(self.attempt, end_frame(total))
                await _flush(relay)
            self.heed(await relay.send(self.attempt))
            if self.durable == total:
                return
        raise AssertionError("the log never became durable")


async def _flush(relay: Relay) -> None:
    archive = relay.factory.archive()
    archive._flush_after_seconds = -1e6
    await archive.flush_due()


async def _run(relays: Sequence[Relay], lines: list[tuple[LogStream, bytes]], steps: list[Step]) -> None:
    attempt = await relays[0].world.add_attempt()
    attempt.lines = _as_a_worker_cuts(lines)
    worker = Worker(attempt)
    for step in steps:
        await worker.step(step, relays)
    await worker.finish(relays[0])
    await _check_archive(relays[1], attempt)
    await relays[0].context.redis.flushall()
    await _check_readers(relays[1], attempt)


async def _check_archive(relay: Relay, attempt: Attempt) -> None:
    async with relay.context.db.read() as session:
        store = ArchiveStore(session)
        index = await store.segments(attempt.id)
        state = (await store.streams([attempt.id]))[attempt.id]
    frames = [frame for segment in index for frame in await relay.factory._reader.load(segment)]
    numbers = [frame.header.first + n for frame in frames for n in range(frame.header.lines)]
    assert numbers == list(range(len(attempt.lines)))
    times = [frame.header.time_us + n for frame in frames for n in range(frame.header.lines)]
    assert times == sorted(set(times))
    for stream in _STREAMS:
        archived = b"".join(frame.payload for frame in frames if frame.header.stream == stream)
        assert archived == b"".join(line for one, line in attempt.lines if one == stream)
    assert state.durable_lines == len(attempt.lines)
    assert [segment.status_lines for segment in index] == [
        sum(attempt.lines[n][0] == LogStream.STATUS for n in range(segment.first_line, segment.end_line))
        for segment in index
    ]


async def _check_readers(relay: Relay, attempt: Attempt) -> None:
    events = (await relay.events(attempt.execution_id, "?limit=0"))["events"]
    assert [(event["stream"], event["message"]) for event in events] == [
        (stream.label, line.rstrip(b"\r\n").decode("utf-8", "replace")) for stream, line in attempt.lines
    ]
    raw = (await relay.get(attempt.execution_id, "log")).content
    assert raw == b"".join(line for stream, line in attempt.lines if stream != LogStream.STATUS)


@pytest.mark.timeout(240)
async def test_archive_equals_what_was_printed(database_url: str, any_redis_url: str, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with open_world(database_url, tmp_path) as world:
        settings_of_both = relay_settings(world, database_url, any_redis_url)
        async with open_relay(world, settings_of_both) as one, open_relay(world, settings_of_both) as two:

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(_LINE, min_size=1, max_size=60), st.lists(_STEP, max_size=30))
            def runs(lines: list[tuple[LogStream, bytes]], steps: list[Step]) -> None:
                asyncio.run_coroutine_threadsafe(_run([one, two], lines, steps), loop).result(60)

            # Hypothesis drives from a thread, so that every example shares this loop and its servers.
            await asyncio.to_thread(runs)
