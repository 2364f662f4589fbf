"""Frames in memory: parsing what a worker sends, and moving a frame's time."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import google_crc32c

from slipway_kit.errors import Invalid
from slipway_schemas.logs import (
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    MAX_LINE_BYTES,
    MAX_METADATA_FRAME_BYTES,
    FrameFlag,
    FrameHeader,
    LogStream,
    split_lines,
)

_STREAMS = frozenset(int(stream) for stream in LogStream)


@dataclass(frozen=True, slots=True)
class Frame:
    """A header and its bytes."""

    header: FrameHeader
    payload: bytes

    @property
    def end(self) -> int:
        """The number of the first line after this frame."""
        return self.header.first + self.header.lines

    @property
    def last_time_us(self) -> int:
        """Time of the last line of this frame."""
        return self.header.time_us + max(self.header.lines - 1, 0)

    def pack(self) -> bytes:
        """The frame as it travels and as it is archived."""
        return self.header.pack() + self.payload

    def moved_to(self, time_us: int) -> "Frame":
        """The same frame with another time of its first line."""
        return Frame(self.header._replace(time_us=time_us), self.payload)

    def lines(self) -> list[bytes]:
        """The frame's lines with their ends, nothing lost."""
        return split_lines(self.payload)

    def from_line(self, line: int) -> "Frame":
        """The frame without its lines before `line`, which must be below `end`; itself when it starts no earlier."""
        dropped = line - self.header.first
        if dropped <= 0:
            return self
        lines = self.lines()
        payload = b"".join(lines[dropped:])
        header = self.header._replace(
            lines=self.header.lines - dropped,
            first=line,
            offset=self.header.offset + len(self.payload) - len(payload),
            time_us=self.header.time_us + dropped,
            length=len(payload),
            crc32c=google_crc32c.value(payload),
        )
        return Frame(header, payload)


def in_order(frames: Iterable[Frame], first_line: int, last_time_us: int) -> Iterator[Frame]:
    """Frames from `first_line` on, up to the first gap, each line once and with a time above the one before it.

    What a worker cut anew after a loss of the tail may overlap with what was archived before the loss.
    """
    for frame in frames:
        if frame.end <= first_line:
            continue
        if frame.header.first > first_line:
            return
        rest = frame.from_line(first_line)
        if rest.header.time_us <= last_time_us:
            rest = rest.moved_to(last_time_us + 1)
        yield rest
        first_line, last_time_us = rest.end, rest.last_time_us


def count_lines(payload: bytes) -> int:
    """How many lines `split_lines` finds, without making them where that is easy to tell."""
    if len(payload) <= MAX_LINE_BYTES and b"\r" not in payload:
        return payload.count(b"\n") + (not payload.endswith(b"\n") and len(payload) > 0)
    return len(split_lines(payload))


def unpack_frame(data: bytes) -> Frame:
    """Read back one frame that `Frame.pack` wrote."""
    header = FrameHeader.unpack(data)
    return Frame(header, bytes(data[FRAME_HEADER.size : FRAME_HEADER.size + header.length]))


def unpack_frames(data: bytes) -> Iterator[Frame]:
    """Read back consecutive frames that were written by this service, without checking them again."""
    position = 0
    while position < len(data):
        header = FrameHeader.unpack(data, position)
        start = position + FRAME_HEADER.size
        position = start + header.length
        yield Frame(header, data[start:position])


def parse_request(body: bytes) -> list[Frame]:
    """Frames of a worker's request, each checked: whole, of a known stream, of the right checksum and line count.

    Raises `Invalid` naming the frame; then nothing of the request has been taken.
    """
    frames: list[Frame] = []
    position = 0
    while position < len(body):
        where = f"Frame {len(frames)} at byte {position}"
        try:
            header = FrameHeader.unpack(body, position)
        except struct.error:
            raise Invalid(f"{where} ends inside its header.", code="bad_frame") from None
        start = position + FRAME_HEADER.size
        payload = body[start : start + header.length]
        _check(header, payload, where)
        frames.append(Frame(header, payload))
        position = start + header.length
    return frames


def _check(header: FrameHeader, payload: bytes, where: str) -> None:
    if header.stream not in _STREAMS:
        raise Invalid(f"{where} names stream {header.stream}, which does not exist.", code="bad_frame")
    metadata = header.stream == LogStream.METADATA
    limit = MAX_METADATA_FRAME_BYTES if metadata else MAX_FRAME_BYTES
    if header.length > limit:
        raise Invalid(f"{where} has {header.length} bytes; at most {limit} are allowed.", code="bad_frame")
    if len(payload) != header.length:
        raise Invalid(f"{where} ends after {len(payload)} of {header.length} bytes.", code="bad_frame")
    if google_crc32c.value(payload) != header.crc32c:
        raise Invalid(f"{where} has another CRC32C than its header says; send it again.", code="bad_checksum")
    if not metadata and count_lines(payload) != header.lines:
        raise Invalid(f"{where} does not hold the {header.lines} lines that its header says.", code="bad_frame")
    if header.lines == 0 and not header.flags & FrameFlag.END:
        raise Invalid(f"{where} is empty and does not end the attempt.", code="bad_frame")
