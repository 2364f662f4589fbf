"""Packs blocks of lines and metadata records into the frames that the log service takes."""

from collections.abc import Iterable, Sequence
from typing import Final

import google_crc32c

from slipway_schemas.logs import (
    CHUNK_BYTES,
    MAX_FRAME_BYTES,
    MAX_METADATA_FRAME_BYTES,
    FrameFlag,
    FrameHeader,
    LogStream,
    split_lines,
)
from slipway_worker.spool.reading import NumberedBlock, NumberedRecord, record_json

_METADATA_BATCH_BYTES: Final = MAX_METADATA_FRAME_BYTES // 4


def frame(
    stream: int, payload: bytes, *, first: int, lines: int, offset: int, time_us: int, flags: FrameFlag = FrameFlag.NONE
) -> bytes:
    """One frame with its header."""
    crc = google_crc32c.value(payload)
    header = FrameHeader(stream, flags, lines, first, offset, time_us, len(payload), crc)
    return header.pack() + payload


def end_frame(lines: int, time_us: int) -> bytes:
    """The frame that says that nothing follows."""
    return frame(LogStream.STATUS, b"", first=lines, lines=0, offset=0, time_us=time_us, flags=FrameFlag.END)


class FrameBuilder:
    """Joins blocks of one stream into frames of about 64 KiB. Lines below `wanted` are left out."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._stream = 0
        self._first = self._lines = self._offset = self._time_us = 0
        self._last_us = 0

    def add(self, numbered: NumberedBlock) -> None:
        """Add the next block of the sequence."""
        first, offset, block = numbered
        if first + block.lines <= self._wanted:
            return
        if first < self._wanted or len(block.data) > CHUNK_BYTES:
            for line in split_lines(block.data):
                if first >= self._wanted:
                    self._put(block.stream, line, 1, first, offset, block.time_us)
                first += 1
                offset += len(line)
        else:
            self._put(block.stream, block.data, block.lines, first, offset, block.time_us)
        if not block.complete:
            self._close()

    def take(self) -> list[bytes]:
        """All frames so far, the last one closed."""
        self._close()
        frames, self._frames = self._frames, []
        return frames

    def _put(self, stream: int, data: bytes, lines: int, first: int, offset: int, time_us: int) -> None:
        if self._parts and (stream != self._stream or self._size + len(data) > MAX_FRAME_BYTES):
            self._close()
        if not self._parts:
            # Line i of a frame has time t0 + i µs, so t0 must lie above the last line's of the frame before.
            self._time_us = max(time_us, self._last_us + 1)
            self._stream, self._first, self._offset = stream, first, offset
        self._parts.append(data)
        self._size += len(data)
        self._lines += lines
        if self._size >= CHUNK_BYTES:
            self._close()

    def _close(self) -> None:
        if not self._parts:
            return
        self._last_us = self._time_us + self._lines
        payload = b"".join(self._parts)
        self._frames.append(
            frame(
                self._stream,
                payload,
                first=self._first,
                lines=self._lines,
                offset=self._offset,
                time_us=self._time_us,
            )
        )
        self._parts, self._size, self._lines = [], 0, 0


def metadata_frames(records: Sequence[NumberedRecord]) -> list[bytes]:
    """Frames of metadata records that follow each other; the payload is a JSON list of `[time, values]`."""
    frames: list[bytes] = []
    texts: list[str] = []
    size = 0
    start = 0
    for index, record in enumerate(records):
        text = record_json(record)
        if texts and size + len(text) > _METADATA_BATCH_BYTES:
            frames.append(_metadata_frame(records[start], texts))
            texts, size, start = [], 0, index
        texts.append(text)
        size += len(text)
    if texts:
        frames.append(_metadata_frame(records[start], texts))
    return frames


def _metadata_frame(first: NumberedRecord, texts: Iterable[str]) -> bytes:
    lines = list(texts)
    payload = f"[{','.join(lines)}]".encode()
    return frame(LogStream.METADATA, payload, first=first.number, lines=len(lines), offset=0, time_us=first.time_us)
