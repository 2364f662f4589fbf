"""Numbers the lines of one replica, the same way however often its target tells them.

What was sent and is not yet in the log store is told by the target again, so nothing is kept here: a follower that
starts anew goes on at the mark, and the log service passes over the lines that it has already.
"""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

import google_crc32c

from slipway_builder.targets.protocol import ReplicaLine
from slipway_runtime.metadata import MetadataParser
from slipway_runtime.redaction import Redactor
from slipway_schemas.logs import CHUNK_BYTES, FrameFlag, FrameHeader, LogsAnswer, LogStream, split_lines

METADATA_KEY: Final = "vh_metadata"
"""The one key of an object that a server prints as metadata (contract 4.7)."""

_JOINED_US: Final = 5_000
"""Lines that were written within this time share a frame, and so nearly a time."""

_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_STREAMS: Final = {"stdout": LogStream.STDOUT, "stderr": LogStream.STDERR}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in what a replica wrote: behind `at_lines` lines of the time `at` and all earlier ones."""

    day: date
    """Each day (UTC) has a log of its own. A line belongs to the day on which it was written, or a later one."""
    lines: int
    """Lines of the day's log before this place."""
    records: int
    """Metadata records of the day's log before this place."""
    at: datetime
    at_lines: int

    @property
    def known_until(self) -> datetime:
        """From when on the target is to tell lines; some that are known are then told again, and passed over."""
        return self.at - timedelta(microseconds=1)


@dataclass(slots=True)
class _Chunk:
    """Lines of one stream and nearly one time, and where they end."""

    stream: LogStream
    first: Mark
    time_us: int
    end: Mark
    parts: list[bytes] = field(default_factory=list)
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one day that are to be sent, and the place behind them."""

    day: date
    frames: bytes
    end: Mark


class ReplicaLog:
    """Takes the lines of a replica, from its mark on."""

    def __init__(self, mark: Mark | None) -> None:
        self._place = mark
        self._skip_until = mark
        """What the target tells again up to here is known."""
        self._skipped = 0
        self._chunks: deque[_Chunk] = deque()
        self._sent: deque[Mark] = deque()
        self._parser = MetadataParser()
        self.pending_bytes = 0

    @property
    def known_until(self) -> datetime | None:
        """`Mark.known_until` of the last line."""
        return None if self._place is None else self._place.known_until

    def told_again(self) -> None:
        """The target begins anew at `known_until`."""
        self._skip_until, self._skipped = self._place, 0

    def take(self, line: ReplicaLine, redactor: Redactor) -> None:
        """Number a line, unless it is known."""
        if self._is_known(line.at):
            return
        before = self._place_on(line.at)
        text = redactor.feed(line.text + b"\n") + redactor.flush()
        time_us = (line.at - _EPOCH) // timedelta(microseconds=1)
        records = [(time_us, values) for values in self._records(text, line.stream, time_us)]
        same = before.at_lines + 1 if line.at == before.at else 1
        self._place = replace(
            before,
            lines=before.lines + len(split_lines(text)),
            records=before.records + len(records),
            at=max(line.at, before.at),
            at_lines=same if line.at >= before.at else before.at_lines,
        )
        self._put(_STREAMS.get(line.stream, LogStream.STDOUT), before, self._place, time_us, text, records)

    def next_batch(self, most_bytes: int) -> Batch | None:
        """What is to be sent next. It stays until `answered`."""
        frames: list[bytes] = []
        size, end = 0, None
        day = self._chunks[0].first.day if self._chunks else None
        for chunk in self._chunks:
            if chunk.first.day != day or size > most_bytes:
                break
            frames += _frames(chunk)
            size += chunk.size
            end = chunk.end
        return None if day is None or end is None else Batch(day, b"".join(frames), end)

    def answered(self, batch: Batch, answer: LogsAnswer) -> bool:
        """Note what the log service has of a batch; False when it has lost lines that were sent before."""
        if answer.next < batch.end.lines or answer.metadata_next < batch.end.records:
            return False
        while self._chunks and self._chunks[0].first.day == batch.day and self._chunks[0].end.lines <= batch.end.lines:
            chunk = self._chunks.popleft()
            self.pending_bytes -= chunk.size
            self._sent.append(chunk.end)
        return True

    def durable(self, day: date, lines: int) -> Mark | None:
        """Note how much of a day is in the log store; the new mark, if it moved."""
        mark = None
        while self._sent and self._sent[0].day == day and self._sent[0].lines <= lines:
            mark = self._sent.popleft()
        return mark

    def undurable(self) -> Mark | None:
        """The oldest place up to which was sent, and of which nobody has said that it is in the log store."""
        return self._sent[0] if self._sent else None

    def _is_known(self, at: datetime) -> bool:
        known = self._skip_until
        if known is None:
            return False
        if at < known.at:
            return True
        if at == known.at and self._skipped < known.at_lines:
            self._skipped += 1
            return True
        self._skip_until = None
        return False

    def _place_on(self, at: datetime) -> Mark:
        """The place before a line of this time; a new day begins a new log."""
        if self._place is None or at.date() > self._place.day:
            return Mark(at.date(), 0, 0, at, 0)
        return self._place

    def _records(self, text: bytes, stream: str, time_us: int) -> Iterable[dict[str, Any]]:
        if stream != "stdout" or METADATA_KEY.encode() not in text:
            return
        for record in self._parser.feed(text, time_us):
            values = {key: value for key, value in record.values.items() if key != "_time"}
            inner = values.get(METADATA_KEY)
            if len(values) == 1 and isinstance(inner, dict):
                yield inner

    def _put(
        self,
        stream: LogStream,
        before: Mark,
        after: Mark,
        time_us: int,
        text: bytes,
        records: list[tuple[int, dict[str, Any]]],
    ) -> None:
        last = self._chunks[-1] if self._chunks else None
        if (
            last is None
            or last.stream != stream
            or last.first.day != before.day
            or not 0 <= time_us - last.time_us < _JOINED_US
            or last.size + len(text) > CHUNK_BYTES
        ):
            last = _Chunk(stream, before, time_us, after)
            self._chunks.append(last)
        last.parts.append(text)
        last.records += records
        last.size += len(text)
        last.end = after
        self.pending_bytes += len(text)


def end_frame(lines: int) -> bytes:
    """Says that nothing follows for now: what is there is to be made durable."""
    return _frame(LogStream.STATUS, b"", lines=0, first=lines, time_us=0, flags=FrameFlag.END)


def _frames(chunk: _Chunk) -> list[bytes]:
    made = [
        _frame(
            chunk.stream,
            b"".join(chunk.parts),
            lines=chunk.end.lines - chunk.first.lines,
            first=chunk.first.lines,
            time_us=chunk.time_us,
        )
    ]
    if chunk.records:
        payload = json.dumps(chunk.records, separators=(",", ":")).encode()
        first, count = chunk.first.records, len(chunk.records)
        made.append(_frame(LogStream.METADATA, payload, lines=count, first=first, time_us=chunk.time_us))
    return made


def _frame(
    stream: LogStream, payload: bytes, *, lines: int, first: int, time_us: int, flags: FrameFlag = FrameFlag.NONE
) -> bytes:
    header = FrameHeader(
        stream=stream,
        flags=flags,
        lines=lines,
        first=first,
        offset=0,
        time_us=time_us,
        length=len(payload),
        crc32c=google_crc32c.value(payload),
    )
    return header.pack() + payload
