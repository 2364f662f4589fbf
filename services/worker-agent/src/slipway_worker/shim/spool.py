"""Writes what comes out of the pipes to disk, unread."""

import os
import time
from pathlib import Path

from slipway_runtime.layout import RECORD_HEADER, spool_file_name


class SpoolWriter:
    """Appends records to numbered files. A full disk loses nothing: the rest is kept and tried again."""

    def __init__(self, directory: Path, roll_bytes: int) -> None:
        self._directory = directory
        self._roll_bytes = roll_bytes
        numbers = [int(name[:-4]) for name in os.listdir(directory) if name.endswith(".raw")]
        # Never appends to a file of an earlier shim, which may end in the middle of a record.
        self._number = max(numbers, default=0)
        self._descriptor = -1
        self._size = 0
        self._unwritten = b""
        self._last_us = 0

    def is_blocked(self) -> bool:
        """True while bytes wait for room on the disk: read nothing more until `retry` has written them."""
        return bool(self._unwritten)

    def write(self, stream: int, data: bytes) -> None:
        """Append one record. Times never fall, even when the clock is set back."""
        self._last_us = max(self._last_us, time.time_ns() // 1000)
        header = RECORD_HEADER.pack(stream, self._last_us, len(data))
        length = len(header) + len(data)
        try:
            if self._descriptor < 0 or self._size + length > self._roll_bytes:
                self._roll()
            written = os.writev(self._descriptor, [header, data])
        except OSError:
            written = 0
        self._size += written
        if written < length:
            self._unwritten = (header + data)[written:]

    def retry(self) -> None:
        """Try to write what is left over from a full disk."""
        try:
            if self._descriptor < 0:
                self._roll()
            written = os.write(self._descriptor, self._unwritten)
        except OSError:
            return
        self._size += written
        self._unwritten = self._unwritten[written:]

    def close(self) -> None:
        """Make everything durable."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _roll(self) -> None:
        path = self._directory / spool_file_name(self._number + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.close()
        self._number += 1
        self._descriptor = descriptor
        self._size = 0
