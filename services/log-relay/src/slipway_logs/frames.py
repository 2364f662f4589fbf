"""Frames in memory: parsing what a worker sends, and moving a frame's time."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

from slipway_kit.errors import Invalid
from slipway_schemas.logs import (
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    MAX_METADATA_FRAME_BYTES,
    FrameFlag,
    FrameHeader,
    LogStream,
    split_lines,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A header and its bytes."""

    header: FrameHeader
    payload: bytes

    @property
    def end(self) -> int:
        """The number of the first line after this frame."""
        return self.header.first + self.header.lines

    def pack(self) -> bytes:
        """The frame as it travels and as it is archived."""
        return self.header.pack() + self.payload

    def moved_to(self, time_us: int) -> "Frame":
        """The same frame with another time of its first line."""
        return Frame(self.header._replace(time_us=time_us), self.payload)

    def lines(self) -> list[bytes]:
        """The frame's lines with their ends, nothing lost."""
        return split_lines(self.payload)


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
    if header.stream not in LogStream.__members__.values():
        raise Invalid(f"{where} names stream {header.stream}, which does not exist.", code="bad_frame")
    metadata = header.stream == LogStream.METADATA
    limit = MAX_METADATA_FRAME_BYTES if metadata else MAX_FRAME_BYTES
    if header.length > limit:
        raise Invalid(f"{where} has {header.length} bytes; at most {limit} are allowed.", code="bad_frame")
    if len(payload) != header.length:
        raise Invalid(f"{where} ends after {len(payload)} of {header.length} bytes.", code="bad_frame")
    if google_crc32c.value(payload) != header.crc32c:
        raise Invalid(f"{where} has another CRC32C than its header says; send it again.", code="bad_checksum")
    if not metadata and len(split_lines(payload)) != header.lines:
        raise Invalid(f"{where} does not hold the {header.lines} lines that its header says.", code="bad_frame")
    if header.lines == 0 and not header.flags & FrameFlag.END:
        raise Invalid(f"{where} is empty and does not end the attempt.", code="bad_frame")
