"""Cuts what the shim spooled into lines, the same way however often the spool is read."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from slipway_schemas.logs import MAX_LINE_BYTES, split_lines

SILENCE_US: Final = 1_000_000
"""An unfinished line is cut when its stream was silent this long, in µs of record time."""


class LineBlock(NamedTuple):
    """Successive lines of one stream. `b"".join` of all blocks of a stream is the stream."""

    stream: int
    time_us: int
    """Time of the record with which the last line ended. Never falls over the blocks of an attempt."""
    data: bytes
    lines: int
    """Number of lines."""
    complete: bool
    """False: the last line was cut by silence or by the end. Nothing may be joined to such a block, because
    its end is known from the end of the chunk only."""


@dataclass
class _Pending:
    data: bytes = b""
    last_us: int = 0


@dataclass
class LineCutter:
    r"""Cuts records of an attempt's streams into blocks of whole lines.

    A line ends after `\n`, after `\r` not followed by `\n`, at 64 KiB, and where its stream was silent for a second
    as told by the times of the records (the shim notes silence with an empty record). Nothing depends on the
    clock or on how the spool is read, so a second reading gives the same lines.
    """

    _pending: dict[int, _Pending] = field(default_factory=dict)
    _now_us: int = 0

    def feed(self, stream: int, time_us: int, data: bytes) -> list[LineBlock]:
        """Take the bytes of one record and give back the lines that ended by it."""
        self._now_us = max(self._now_us, time_us)
        blocks = self._cut_silent()
        pending = self._pending.setdefault(stream, _Pending())
        pending.last_us = self._now_us
        if data:
            whole, pending.data = _split_whole(pending.data + data)
            if whole:
                blocks.append(self._block(stream, whole, complete=True))
        return blocks

    def flush(self) -> list[LineBlock]:
        """The unfinished lines at the end of the attempt."""
        blocks = []
        for stream, pending in sorted(self._pending.items()):
            if pending.data:
                blocks.append(self._block(stream, pending.data, complete=False))
                pending.data = b""
        return blocks

    def _cut_silent(self) -> list[LineBlock]:
        blocks = []
        for stream, pending in sorted(self._pending.items()):
            if pending.data and self._now_us - pending.last_us >= SILENCE_US:
                blocks.append(self._block(stream, pending.data, complete=False))
                pending.data = b""
        return blocks

    def _block(self, stream: int, data: bytes, *, complete: bool) -> LineBlock:
        simple = len(data) <= MAX_LINE_BYTES and b"\r" not in data
        count = data.count(b"\n") + (not data.endswith(b"\n")) if simple else len(split_lines(data))
        return LineBlock(stream, self._now_us, data, count, complete)


def _split_whole(data: bytes) -> tuple[bytes, bytes]:
    """The leading part that consists of whole lines, and the rest."""
    newline = data.rfind(b"\n") + 1
    # A carriage return at the very end may still be followed by its line feed.
    end = max(newline, data.rfind(b"\r", 0, max(len(data) - 1, 0)) + 1)
    rest = data[end:]
    end += len(rest) // MAX_LINE_BYTES * MAX_LINE_BYTES
    return data[:end], data[end:]
