"""A segment's bytes: consecutive frames, compressed with zstd. Each frame carries its own CRC32C."""

import asyncio
from collections.abc import Sequence

import zstandard

from slipway_logs.frames import Frame, unpack_frames
from slipway_schemas.logs import LogStream

SEGMENT_MIN_BYTES = 1024 * 1024
SEGMENT_MAX_BYTES = 8 * 1024 * 1024
INLINE_MAX_BYTES = 32 * 1024
"""Compressed size up to which a segment stays inside its index row."""

MERGE_MAX_BYTES = 256 * 1024
"""Raw size up to which new lines are added to the inline segment before them."""

_COMPRESSION_LEVEL = 3
_SMALL_BYTES = 64 * 1024


def encode(frames: Sequence[Frame]) -> bytes:
    """Compress frames into a segment. CPU-bound: `encode_aside` does it without holding up the event loop."""
    return zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(b"".join(frame.pack() for frame in frames))


def decode(data: bytes) -> list[Frame]:
    """Read a segment back. CPU-bound like `encode`."""
    return list(unpack_frames(zstandard.ZstdDecompressor().decompress(data)))


async def encode_aside(frames: Sequence[Frame]) -> bytes:
    """`encode`, in a thread unless that is quick."""
    if sum(len(frame.payload) for frame in frames) <= _SMALL_BYTES:
        return encode(frames)
    return await asyncio.to_thread(encode, frames)


async def decode_aside(data: bytes, raw_bytes: int) -> list[Frame]:
    """`decode`, in a thread unless that is quick."""
    return decode(data) if raw_bytes <= _SMALL_BYTES else await asyncio.to_thread(decode, data)


def status_lines(frames: Sequence[Frame]) -> int:
    """How many lines of the status stream these frames hold."""
    return sum(frame.header.lines for frame in frames if frame.header.stream == LogStream.STATUS)
