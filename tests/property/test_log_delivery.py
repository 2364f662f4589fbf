"""From the shim's spool to the archive over a network that breaks everything: byte for byte, in rising times.

Everything but the network is the real thing: spool, redaction, cutting, sending; two relays on Valkey and Postgres.
A case is a seed: it says what is printed and what is broken when.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slipway_kit.clock import SystemClock
from slipway_kit.errors import SlipwayError, Unavailable
from slipway_kit.logging import configure
from slipway_logs.archive.service import ArchiveService
from slipway_logs.archive.store import ArchiveStore
from slipway_runtime.layout import STDERR, STDOUT
from slipway_runtime.metadata import MetadataParser
from slipway_runtime.redaction import Redactor
from slipway_schemas.logs import FRAME_HEADER, FrameHeader, LogsAnswer, LogStream
from slipway_worker.shim.spool import SpoolWriter
from slipway_worker.spool import sending
from slipway_worker.spool.reading import NumberedRecord, SpoolReader
from slipway_worker.spool.status import StatusJournal
from tests.api.logs.harness import Attempt, Relay, World, open_relay, open_world, relay_settings, template_database

__all__ = ["template_database"]

SEEDS = range({"ci": 40, "full": 500}.get(os.environ.get("SLIPWAY_CHAOS", ""), 8))
SECRETS = ["hidden-secret-value", "two lines of a\nmulti-line secret"]
PIECES = [
    *([b"a line of text\n"] * 8),
    *(b"no end", b"\n", b"\r", b"progress 1\rprogress 2\r\n", b"\x00\xff\xfe\n", b'{"step": 1, "loss": 0.5}\n'),
    *(b"hidden-", b"secret-value", b"hidden-secret-value", b"aGlkZGVuLXNlY3JldC12YWx1ZQ==", b"multi-line secret\n"),
    *(b"x" * 70_000, b"y" * 3000),
]


class Network:
    """Carries requests of one attempt to either relay, and breaks what the seed says."""

    def __init__(self, relays: Sequence[Relay], attempt: Attempt, chance: random.Random) -> None:
        self._relays = relays
        self._attempt = attempt
        self._chance = chance
        self._late: list[bytes] = []
        self.broken = True
        self.counts: dict[str, int] = {}
        self._requests: set[asyncio.Task[LogsAnswer]] = set()

    async def send(self, frames: bytes) -> LogsAnswer:
        """As `AttemptPlatform.send`."""
        await asyncio.sleep(self._chance.random() * 0.002)
        if self._late and self._chance.random() < 0.3:
            self._count("came late")
            await self._arrive(self._late.pop(self._chance.randrange(len(self._late))))
        fate = self._chance.random() if self.broken else 1.0
        if fate < 0.12:
            self._count("request lost")
            raise Unavailable("the request was lost")
        if fate < 0.22:
            self._count("answer lost")
            await self._arrive(frames)
            raise Unavailable("the answer was lost")
        if fate < 0.30:
            self._count("held back")
            self._late.append(frames)
            raise Unavailable("the request is still on its way")
        if fate < 0.40:
            self._count("came twice")
            await asyncio.gather(*(self._arrive(frames) for _ in range(2)))
            return await self._arrive(frames)
        if fate < 0.45:
            self._count("cut short")
            await self._arrive(_whole_frames(frames, self._chance))
            raise Unavailable("the rest was lost")
        return await self._arrive(frames)

    async def _arrive(self, frames: bytes) -> LogsAnswer:
        relay = self._chance.choice(self._relays)
        # A relay goes on with a request whose sender was killed.
        request = asyncio.create_task(relay.send(self._attempt, frames))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        try:
            return await asyncio.shield(request)
        except AssertionError as error:
            raise Unavailable(str(error)) from error

    async def settle(self) -> None:
        """Wait for the requests whose senders were killed."""
        await asyncio.gather(*self._requests, return_exceptions=True)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def _whole_frames(frames: bytes, chance: random.Random) -> bytes:
    ends = [0]
    while ends[-1] < len(frames):
        header = FrameHeader.unpack(frames, ends[-1])
        ends.append(ends[-1] + FRAME_HEADER.size + header.length)
    return frames[: chance.choice(ends)]


class Agent:
    """The sending part of a worker's agent on one attempt's directory; can be killed and begun anew."""

    def __init__(self, directory: Path, network: Network) -> None:
        self._directory = directory
        self._network = network
        self._task: asyncio.Task[None] | None = None
        self.complete = False
        self.records: list[NumberedRecord] = []
        self.reader: SpoolReader
        self.sender: sending.LogSender
        self.journal: StatusJournal

    async def start(self) -> None:
        self.journal = StatusJournal(self._directory / "status.jsonl", SystemClock(), str)
        self.reader = SpoolReader(self._directory, self.journal, SECRETS, lambda: self.complete, 10**9)
        self.records = await self.reader.catch_up()
        self.sender = sending.LogSender(
            self.reader,
            self._network,
            SystemClock(),
            on_records=self.records.extend,
            on_trouble=lambda _: None,
            seen=self.reader.records,
        )
        self._task = asyncio.create_task(self.sender.run())

    async def kill(self) -> None:
        """At any of its awaits."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def finish(self) -> None:
        assert self._task is not None
        self.sender.finish()
        await self._task


class CrashingArchive:
    """An archive loop that dies between the object and its index row, now and then."""

    def __init__(self, relay: Relay, chance: random.Random) -> None:
        self._relay = relay
        self._chance = chance
        self.crashes = 0

    async def flush(self) -> None:
        archive: ArchiveService = self._relay.factory.archive()
        archive._flush_after_seconds = -1e6
        if self._chance.random() < 0.3:
            self.crashes += 1
            archive._add = _die  # type: ignore[method-assign]
        with suppress(_Died, SlipwayError):
            await archive.flush_due()


class _Died(Exception):
    """The process is gone."""


async def _die(*_: object) -> Any:
    raise _Died


@pytest.fixture
async def relays(database_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, list[Relay]]]:
    async with open_world(database_url, tmp_path) as world:
        both = relay_settings(world, database_url, valkey_url)
        async with open_relay(world, both) as one, open_relay(world, both) as two:
            yield world, [one, two]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps without the waiting, and without a line of log per request."""
    configure("test", "ERROR", json=True)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_DURABLE_POLL_SECONDS", "_LONGEST_POLL_SECONDS", "_GATHER_SECONDS"):
        monkeypatch.setattr(sending, name, 0.001)
    # Small requests, so that there are many to break.
    monkeypatch.setattr(sending, "_REQUEST_BYTES", 20_000)


@pytest.mark.timeout(60 + 20 * len(SEEDS))
async def test_what_is_printed_is_archived(relays: tuple[World, list[Relay]], tmp_path: Path) -> None:
    counts: dict[str, int] = {}
    for seed in SEEDS:
        directory = tmp_path / f"spool-{seed}"
        directory.mkdir()
        try:
            async with asyncio.timeout(60):
                await _one(seed, relays[1], directory, counts)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    print(f"{len(SEEDS)} logs, {counts}, lost 0, doubled 0")
    assert {"request lost", "answer lost", "came late", "came twice", "agent killed", "Valkey flushed"} <= set(counts)


async def _one(seed: int, relays: list[Relay], directory: Path, counts: dict[str, int]) -> None:
    chance = random.Random(seed)
    attempt = await relays[0].world.add_attempt()
    network = Network(relays, attempt, chance)
    agent = Agent(directory, network)
    archives = [CrashingArchive(relay, chance) for relay in relays]
    spool = SpoolWriter(directory, roll_bytes=chance.choice([4_000, 200_000]))
    printed = {STDOUT: bytearray(), STDERR: bytearray()}
    said: list[str] = []

    async def kill_agent() -> None:
        network._count("agent killed")
        await agent.kill()
        await agent.start()

    async def flush_valkey() -> None:
        network._count("Valkey flushed")
        await relays[0].context.redis.flushall()

    blows: list[Callable[[], Coroutine[Any, Any, None]]] = [
        *(archive.flush for archive in archives),
        kill_agent,
        flush_valkey,
    ]
    await agent.start()
    for number in range(chance.randrange(40, 120)):
        stream = chance.choice([STDOUT, STDOUT, STDERR])
        data = b"".join(chance.choices(PIECES, k=chance.randrange(1, 6)))
        spool.write(stream, data)
        printed[stream] += data
        if chance.random() < 0.1:
            said.append(f"said {number}")
            agent.journal.say(said[-1], agent.reader.position)
        await asyncio.sleep(chance.random() * 0.004)
        if chance.random() < 0.2:
            await chance.choice(blows)()
    spool.close()
    agent.complete = True
    ending = asyncio.create_task(agent.finish())
    await asyncio.sleep(chance.random() * 0.01)
    if chance.random() < 0.5 and not ending.done():
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending
        await kill_agent()
        ending = asyncio.create_task(agent.finish())
    flushes = 3  # each makes the agent go back to what is durable, so without end there may be no end
    while not ending.done():
        await asyncio.sleep(0.01)
        if chance.random() < 0.1:
            await chance.choice(archives).flush()
        if flushes and chance.random() < 0.05:
            flushes -= 1
            await flush_valkey()
    await ending
    lines = agent.reader.lines
    if chance.random() < 0.5:
        await flush_valkey()  # everything was taken, not everything is durable
    durable = asyncio.create_task(agent.sender.until_durable())
    while not durable.done():
        await asyncio.sleep(0.01)
        await chance.choice(archives).flush()
    await durable
    await network.settle()
    await _check(relays[1], attempt, lines, {key: bytes(value) for key, value in printed.items()}, said)
    for what, count in network.counts.items():
        counts[what] = counts.get(what, 0) + count
    counts["archive crashes"] = counts.get("archive crashes", 0) + sum(one.crashes for one in archives)


async def _check(relay: Relay, attempt: Attempt, lines: int, printed: dict[int, bytes], said: list[str]) -> None:
    async with relay.context.db.read() as session:
        index = await ArchiveStore(session).segments(attempt.id)
    frames = [frame for segment in index for frame in await relay.factory._reader.load(segment)]
    numbers = [frame.header.first + n for frame in frames for n in range(frame.header.lines)]
    assert numbers == list(range(lines)), "every line once, in order"
    times = [frame.header.time_us + n for frame in frames for n in range(frame.header.lines)]
    assert times == sorted(set(times)), "times rise"
    for stream in (STDOUT, STDERR):
        redactor = Redactor(SECRETS)
        expected = redactor.feed(printed[stream]) + redactor.flush()
        archived = b"".join(frame.payload for frame in frames if frame.header.stream == stream)
        assert archived == expected, f"stream {stream}: {len(archived)} bytes of {len(expected)}"
    statuses = b"".join(frame.payload for frame in frames if frame.header.stream == LogStream.STATUS)
    assert statuses.decode().splitlines() == said
    redactor, parser = Redactor(SECRETS), MetadataParser()
    clean = redactor.feed(printed[STDOUT]) + redactor.flush()
    kept = (await relay.get(attempt.execution_id, "metadata")).json()
    assert _untimed(kept) == _untimed([dict(record.values) for record in parser.feed(clean, 0)])


def _untimed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "_time"} for record in records]
