"""Log chunks on the wire and how their bytes fall into lines.

Lines of all streams of an attempt share one sequence; metadata records have a sequence of their own. A request to
`/workers/v1/logs` is a sequence of frames: a fixed header (`FrameHeader`), then `length` bytes.
"""

import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from slipway_schemas.base import WireModel

MAX_LINE_BYTES: Final = 64 * 1024
"""A line ends here at the latest (design section 12, 'Lines')."""

CHUNK_BYTES: Final = 64 * 1024
"""A chunk is closed at this size, or 5 ms after its first byte."""

MAX_FRAME_BYTES: Final = 2 * MAX_LINE_BYTES
MAX_METADATA_FRAME_BYTES: Final = 8 * 1024 * 1024


class LogStream(IntEnum):
    """What a frame carries. The first three are log lines, the fourth is metadata records."""

    STDOUT = 1
    STDERR = 2
    STATUS = 3
    METADATA = 4

    @property
    def label(self) -> str:
        """The stream's name in the API."""
        return self.name.lower()


class FrameFlag(IntFlag):
    """Marks on a frame."""

    NONE = 0
    END = 1
    """Nothing follows on this attempt: make everything durable now. The frame may be empty."""


class FrameHeader(NamedTuple):
    """Header of a frame. Line i of the frame (from 0) has time `time_us` + i, in µs since 1970 UTC."""

    stream: int
    flags: int
    lines: int
    """Number of lines, or of metadata records, in the frame."""
    first: int
    """Number of the first line (or metadata record) within the attempt; the first ever is 0."""
    offset: int
    """Bytes of this stream before this frame, within the attempt."""
    time_us: int
    length: int
    crc32c: int

    def pack(self) -> bytes:
        """The header's bytes."""
        return FRAME_HEADER.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | memoryview, position: int = 0) -> "FrameHeader":
        """Read a header; raises `struct.error` when the bytes end early."""
        return cls._make(FRAME_HEADER.unpack_from(data, position))


FRAME_HEADER: Final = struct.Struct("<BBIQQqII")


def split_lines(payload: bytes) -> list[bytes]:
    r"""Split a frame's bytes into its lines, nothing lost: `b"".join(split_lines(p)) == p`.

    A line ends after `\n`, after `\r` not followed by `\n`, at `MAX_LINE_BYTES`, and at the end of the frame.
    """
    # bytes.splitlines breaks at \n, \r\n and \r only, unlike str.splitlines.
    pieces = payload.splitlines(keepends=True)
    if len(payload) <= MAX_LINE_BYTES:
        return pieces
    return [piece[start : start + MAX_LINE_BYTES] for piece in pieces for start in range(0, len(piece), MAX_LINE_BYTES)]


class LogsAnswer(WireModel):
    """The relay's answer to a worker: what it wants next and what it will never want again."""

    next: int
    """The first line that the relay does not have. Sending continues here."""
    durable: int
    """Lines below this number are in the log store: their spool may be deleted."""
    metadata_next: int
    """The first metadata record that the relay does not have. All below are committed."""
