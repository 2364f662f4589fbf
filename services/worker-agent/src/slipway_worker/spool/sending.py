"""Sends an attempt's lines until the log service has them, and again whenever it asks for them again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from slipway_kit.clock import Clock
from slipway_kit.errors import Conflict, SlipwayError
from slipway_kit.logging import get_logger
from slipway_schemas.logs import LogsAnswer
from slipway_worker.spool.frames import FrameBuilder, end_frame, metadata_frames
from slipway_worker.spool.reading import NumberedRecord, SpoolReader

_LOG = get_logger()
_GATHER_SECONDS: Final = 0.005
_LONGEST_POLL_SECONDS: Final = 0.05
_REQUEST_BYTES: Final = 2 * 1024 * 1024
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_DURABLE_POLL_SECONDS: Final = 1.0


class Relay(Protocol):
    """The log service as one attempt sees it."""

    async def send(self, frames: bytes) -> LogsAnswer:
        """Send frames, or nothing to ask where to continue. Raises `Unavailable`, and `Conflict` when over."""


class LogSender:
    """Moves one attempt's log out of the machine.

    `on_records` gets every metadata record from number `seen` on once, in order. `on_trouble` gets a sentence
    while the service is away and an empty one when it is back.
    """

    def __init__(
        self,
        reader: SpoolReader,
        relay: Relay,
        clock: Clock,
        *,
        on_records: Callable[[Sequence[NumberedRecord]], None],
        on_trouble: Callable[[str], None],
        seen: int = 0,
    ) -> None:
        self._reader = reader
        self._relay = relay
        self._clock = clock
        self._on_records = on_records
        self._on_trouble = on_trouble
        self._seen_records = seen
        self._next = 0
        self._metadata_next = 0
        self._durable = 0
        self._closing = asyncio.Event()

    @property
    def durable(self) -> int:
        """Lines below this number are in the log store."""
        return self._durable

    def finish(self) -> None:
        """Nothing more will be said: `run` ends when everything has been taken."""
        self._closing.set()

    async def run(self) -> None:
        """Send until `finish` was called and the service has all lines and records, the end mark included."""
        await self._ask()
        poll = _GATHER_SECONDS
        while True:
            moved = await self._send_more()
            if moved:
                poll = _GATHER_SECONDS
                continue
            if self._closing.is_set() and self._reader.ended:
                if await self._send_end():
                    return
                continue
            await asyncio.sleep(poll)
            poll = min(poll * 1.5, _LONGEST_POLL_SECONDS)

    async def until_durable(self) -> None:
        """After `run`: wait until the log store has all lines, sending again what the service has lost."""
        total = self._reader.lines
        while self._durable < total:
            await asyncio.sleep(_DURABLE_POLL_SECONDS)
            try:
                await self._ask()
                if self._next < total:
                    await self.run()
            except Conflict as error:
                # The attempt is closed there: what the service has is what it will ever have.
                _LOG.warning("log_closed_before_durable", durable=self._durable, lines=total, error=error.message)
                return

    async def _send_more(self) -> bool:
        """Send what there is, up to `_REQUEST_BYTES`; whether there was anything."""
        builder = FrameBuilder(self._next)
        records: list[NumberedRecord] = []
        moved = False
        size = 0
        while size < _REQUEST_BYTES:
            # In the event loop on purpose: a status line said meanwhile would have two places.
            batch = self._reader.read()
            await asyncio.sleep(0)
            for block in batch.blocks:
                builder.add(block)
                size += len(block.block.data)
            records += (record for record in batch.records if record.number >= self._metadata_next)
            self._show(batch.records)
            if not batch.blocks and not batch.moved:
                break
            moved = True
        frames = builder.take() + metadata_frames(records)
        if frames:
            await self._deliver(b"".join(frames), self._reader.lines, self._reader.records)
        return moved

    async def _send_end(self) -> bool:
        """Send the end mark; whether all was taken."""
        time_us = int(self._clock.now().timestamp() * 1_000_000)
        return await self._deliver(end_frame(self._reader.lines, time_us), self._reader.lines, self._reader.records)

    async def _deliver(self, frames: bytes, lines: int, records: int) -> bool:
        """Send; when the answer wants something else than what follows, go back there. Whether all was taken."""
        try:
            answer = await self._relay.send(frames)
        except Conflict:
            raise
        except SlipwayError as error:
            self._on_trouble(f"waiting for the log service: {error.message}")
            await asyncio.sleep(_FIRST_PAUSE)
            await self._ask()
            return False
        self._keep(answer)
        if (answer.next, answer.metadata_next) == (lines, records):
            return True
        self._reader.seek(answer.next, answer.metadata_next)
        return False

    async def _ask(self) -> None:
        """Ask the service where to continue, for as long as it takes, and go there."""
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = await self._relay.send(b"")
            except Conflict:
                raise
            except SlipwayError as error:
                self._on_trouble(f"waiting for the log service: {error.message}")
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._on_trouble("")
            self._keep(answer)
            if (answer.next, answer.metadata_next) != (self._reader.lines, self._reader.records):
                self._reader.seek(answer.next, answer.metadata_next)
            return

    def _keep(self, answer: LogsAnswer) -> None:
        self._next, self._metadata_next, self._durable = answer.next, answer.metadata_next, answer.durable

    def _show(self, records: Sequence[NumberedRecord]) -> None:
        new = [record for record in records if record.number >= self._seen_records]
        if new:
            self._seen_records = new[-1].number + 1
            self._on_records(new)
