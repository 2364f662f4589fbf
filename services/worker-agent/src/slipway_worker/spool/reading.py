"""Reads the raw spool into one sequence of lines and one of metadata records, the same at every reading."""

import asyncio
import copy
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from slipway_runtime.layout import RECORD_HEADER, STDOUT, parse_records, spool_file_name
from slipway_runtime.lines import LineBlock, LineCutter
from slipway_runtime.metadata import MetadataParser, MetadataRecord
from slipway_runtime.redaction import Redactor
from slipway_schemas.logs import LogStream
from slipway_worker.spool.status import StatusJournal
from slipway_worker.spool.tail import LogTail

READ_BYTES: Final = 256 * 1024
_CHECKPOINT_BYTES: Final = 8 * 1024 * 1024


class NumberedBlock(NamedTuple):
    """Lines with their place in the attempt's one sequence."""

    first: int
    offset: int
    """Bytes of the stream before this block."""
    block: LineBlock


class NumberedRecord(NamedTuple):
    """A metadata record with its place among the attempt's records."""

    number: int
    time_us: int
    record: MetadataRecord


@dataclass
class SpoolBatch:
    """What one step of reading gave."""

    blocks: list[NumberedBlock] = field(default_factory=list)
    records: list[NumberedRecord] = field(default_factory=list)
    moved: bool = False
    """Whether raw bytes were read, even if no line ended in them."""


@dataclass
class _State:
    """Everything that the next line depends on."""

    redactors: dict[int, Redactor]
    cutter: LineCutter = field(default_factory=LineCutter)
    parser: MetadataParser = field(default_factory=MetadataParser)
    file_number: int = 1
    file_offset: int = 0
    position: int = 0
    """Steps taken: raw records, and one more for the end of the raw spool."""
    ended: bool = False
    statuses: int = 0
    lines: int = 0
    records: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    kept_bytes: int = 0
    dropped_bytes: int = 0
    read_bytes: int = 0
    tail: LogTail = field(default_factory=LogTail)


class SpoolReader:
    """Merges the run's output with the worker's status lines, by rules that need no clock.

    Raw records are redacted and cut in the order in which the shim wrote them; a status line stands behind the
    raw record behind which it was said. Reading can go back to any line (`seek`): the result is the same.
    `raw_complete` tells whether the raw spool will not grow any more.
    """

    def __init__(
        self,
        directory: Path,
        journal: StatusJournal,
        secrets: Iterable[str],
        raw_complete: Callable[[], bool],
        limit_bytes: int,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._raw_complete = raw_complete
        self._limit_bytes = limit_bytes
        values = tuple(secrets)
        self._state = _State({stream: Redactor(values) for stream in (LogStream.STDOUT, LogStream.STDERR)})
        self._checkpoints = [copy.deepcopy(self._state)]
        self._reached = 0

    async def catch_up(self) -> list[NumberedRecord]:
        """Read what an earlier agent may have sent already; the metadata records in it.

        Must be done before anything is said: a line may not take a place in front of lines that were sent.
        """
        records: list[NumberedRecord] = []
        while True:
            batch = self.read()
            records += batch.records
            if not batch.blocks and not batch.moved:
                return records
            await asyncio.sleep(0)

    @property
    def position(self) -> int:
        """Where a status line said now has its place: behind everything that was ever read."""
        return self._reached

    @property
    def lines(self) -> int:
        """Number of lines read so far."""
        return self._state.lines

    @property
    def records(self) -> int:
        """Number of metadata records read so far."""
        return self._state.records

    @property
    def output_ended(self) -> bool:
        """Whether all that the run printed has been read."""
        return self._state.ended

    @property
    def ended(self) -> bool:
        """Whether all of the raw spool and all status lines said so far have been read."""
        return self._state.ended and self._state.statuses == len(self._journal.entries)

    def last_lines(self) -> list[dict[str, str]]:
        """The last lines of what was read of the run's output."""
        return self._state.tail.lines()

    def seek(self, line: int, record: int) -> None:
        """Go back to a place before this line and this metadata record; reading gives blocks that begin earlier."""
        while len(self._checkpoints) > 1 and not _before(self._checkpoints[-1], line, record):
            self._checkpoints.pop()
        self._state = copy.deepcopy(self._checkpoints[-1])

    def read(self) -> SpoolBatch:
        """Read on, up to `READ_BYTES` of raw bytes."""
        state = self._state
        batch = SpoolBatch()
        self._take_statuses(batch)
        if state.ended:
            return batch
        # Asked before reading: what is written until the run's end is then certainly read.
        complete = self._raw_complete()
        data = self._read_file(state.file_number, state.file_offset)
        consumed = 0
        for record, end in parse_records(data):
            consumed = end
            state.position += 1
            self._take(batch, record.stream, record.time_us, record.data)
            self._take_statuses(batch)
        state.file_offset += consumed
        state.read_bytes += consumed
        batch.moved = consumed > 0
        if not consumed:
            if self._file(state.file_number + 1).exists():
                # The shim writes the next file only when this one is closed; a torn end belongs to no record.
                if not self._grew(state):
                    state.file_number, state.file_offset, batch.moved = state.file_number + 1, 0, True
            elif complete:
                self._end(batch)
                batch.moved = True
        self._reached = max(self._reached, state.position)
        if state.read_bytes - self._checkpoints[-1].read_bytes >= _CHECKPOINT_BYTES:
            self._checkpoints.append(copy.deepcopy(state))
        return batch

    def _grew(self, state: _State) -> bool:
        return any(True for _ in parse_records(self._read_file(state.file_number, state.file_offset)))

    def _file(self, number: int) -> Path:
        return self._directory / spool_file_name(number)

    def _read_file(self, number: int, offset: int) -> bytes:
        try:
            with self._file(number).open("rb") as file:
                file.seek(offset)
                data = file.read(READ_BYTES)
                if len(data) >= RECORD_HEADER.size:
                    # The first record is read whole, whatever its size.
                    whole = RECORD_HEADER.size + RECORD_HEADER.unpack_from(data)[2]
                    if whole > len(data):
                        data += file.read(whole - len(data))
                return data
        except FileNotFoundError:
            return b""

    def _take(self, batch: SpoolBatch, stream: int, time_us: int, data: bytes) -> None:
        state = self._state
        clean = state.redactors[stream].feed(data) if data else b""
        if stream == STDOUT and clean:
            self._add_records(batch, state.parser.feed(clean, time_us), time_us)
        for block in state.cutter.feed(stream, time_us, clean):
            self._add(batch, block)

    def _end(self, batch: SpoolBatch) -> None:
        state = self._state
        for stream, redactor in state.redactors.items():
            rest = redactor.flush()
            if rest:
                if stream == STDOUT:
                    self._add_records(batch, state.parser.feed(rest, 0), 0)
                for block in state.cutter.feed(stream, 0, rest):
                    self._add(batch, block)
        for block in state.cutter.flush():
            self._add(batch, block)
        if state.dropped_bytes:
            text = f"The log ends with a gap: {state.dropped_bytes} more bytes of output were not kept."
            self._append(batch, _status_block(0, text))
        state.ended = True
        state.position += 1
        self._take_statuses(batch)

    def _take_statuses(self, batch: SpoolBatch) -> None:
        state = self._state
        entries = self._journal.entries
        while state.statuses < len(entries) and entries[state.statuses].position <= state.position:
            entry = entries[state.statuses]
            state.statuses += 1
            self._append(batch, _status_block(entry.time_us, entry.text))

    def _add(self, batch: SpoolBatch, block: LineBlock) -> None:
        state = self._state
        if state.dropped_bytes or state.kept_bytes + len(block.data) > self._limit_bytes:
            if not state.dropped_bytes:
                text = f"The log has reached its limit of {self._limit_bytes} bytes: output from here on is not kept."
                self._append(batch, _status_block(block.time_us, text))
            state.dropped_bytes += len(block.data)
            return
        state.kept_bytes += len(block.data)
        self._append(batch, block)

    def _append(self, batch: SpoolBatch, block: LineBlock) -> None:
        state = self._state
        offset = state.offsets.get(block.stream, 0)
        batch.blocks.append(NumberedBlock(state.lines, offset, block))
        state.lines += block.lines
        state.offsets[block.stream] = offset + len(block.data)
        if block.stream != LogStream.STATUS:
            state.tail.add(LogStream(block.stream), block.data)

    def _add_records(self, batch: SpoolBatch, records: Iterable[MetadataRecord], time_us: int) -> None:
        for record in records:
            batch.records.append(NumberedRecord(self._state.records, time_us, record))
            self._state.records += 1


def _before(state: _State, line: int, record: int) -> bool:
    return state.lines <= line and state.records <= record


def _status_block(time_us: int, text: str) -> LineBlock:
    return LineBlock(LogStream.STATUS, time_us, text.encode() + b"\n", 1, complete=True)


def record_json(numbered: NumberedRecord) -> str:
    """A metadata record as it travels: `[time in µs, values]`."""
    return json.dumps([numbered.time_us, numbered.record.values], separators=(",", ":"))
