"""Follows what the replicas of an endpoint write into their logs.

The logs have no times, so the first reader of a part notes beside the log when it came. Whoever reads the part again
tells the same times, which is how a reader knows what it has had.
"""

import asyncio
import contextlib
import os
import struct
from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import Final

from slipway_builder.targets.process.replicas import LOG_FILE, TIMES_FILE
from slipway_builder.targets.protocol import ReplicaLine

_LOOK_SECONDS: Final = 0.2
_PART_BYTES: Final = 256 * 1024
_LONGEST_LINE: Final = 64 * 1024
_NOTE: Final = struct.Struct("<QQ")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Log:
    """One opened log. `ends` and `times_us` say until where each part reached and when it came."""

    folder: Path
    file: BufferedReader
    position: int = 0
    last_us: int = 0
    """Time of the last line so far."""
    ends: list[int] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, after: datetime) -> "_Log":
        """At the first part that may hold lines of `after` or later. Raises OSError."""
        log = cls(folder, (folder / LOG_FILE).open("rb"))
        log._read_notes()
        wanted = _time_us(after)
        skipped = max(0, bisect_right(log.times_us, wanted) - 1)
        if skipped:
            log.position = log.ends[skipped - 1]
        return log

    def is_gone(self) -> bool:
        """Whether its path leads elsewhere by now."""
        try:
            return (self.folder / LOG_FILE).stat().st_ino != os.fstat(self.file.fileno()).st_ino
        except OSError:
            return True

    def read(self, *, to_the_end: bool) -> list[tuple[int, bytes]]:
        """The next lines with their times; with `to_the_end` also what lacks its line feed."""
        size = os.fstat(self.file.fileno()).st_size
        if size < self.position:
            self._begin_anew()
        noted = bisect_right(self.ends, self.position)
        self.file.seek(self.position)
        if noted < len(self.ends):
            data = self.file.read(self.ends[noted] - self.position)
            first_us = self.times_us[noted]
        else:
            data = self.file.read(_PART_BYTES)
            whole = data[: data.rfind(b"\n") + 1]
            if whole or not (to_the_end or len(data) == _PART_BYTES):
                data = whole
            first_us = max(_time_us(datetime.now(UTC)), self.last_us + 1)
            if data:
                self._note(self.position + len(data), first_us)
        self.position += len(data)
        lines = _cut(data)
        if lines:
            self.last_us = first_us + len(lines) - 1
        return [(first_us + index, line) for index, line in enumerate(lines)]

    def _note(self, end: int, time_us: int) -> None:
        self.ends.append(end)
        self.times_us.append(time_us)
        if not self.is_gone():
            with contextlib.suppress(OSError), (self.folder / TIMES_FILE).open("ab") as notes:
                notes.write(_NOTE.pack(end, time_us))

    def _read_notes(self) -> None:
        size = os.fstat(self.file.fileno()).st_size
        try:
            data = (self.folder / TIMES_FILE).read_bytes()
        except OSError:
            return
        for end, time_us in _NOTE.iter_unpack(data[: len(data) // _NOTE.size * _NOTE.size]):
            if (self.ends[-1:] or [0])[0] < end <= size and (self.times_us[-1:] or [0])[0] < time_us:
                self.ends.append(end)
                self.times_us.append(time_us)

    def _begin_anew(self) -> None:
        """The log was cut because it had grown too large."""
        self.position, self.ends, self.times_us = 0, [], []
        with contextlib.suppress(OSError):
            (self.folder / TIMES_FILE).unlink()


class Follower:
    """One reader of an endpoint's logs."""

    def __init__(self, root: Path, since: datetime, known: Mapping[str, datetime]) -> None:
        self._root = root
        self._since = since
        self._known = known
        self._logs: dict[Path, _Log] = {}

    async def lines(self) -> AsyncGenerator[ReplicaLine, None]:
        """Yield lines until the caller stops; the last ones of a replica also when its folder is gone."""
        try:
            while True:
                for folder in self._folders():
                    if folder not in self._logs:
                        after = self._known.get(folder.name, self._since)
                        with contextlib.suppress(OSError):
                            self._logs[folder] = _Log.open(folder, after)
                for folder, log in list(self._logs.items()):
                    gone = log.is_gone()
                    while found := log.read(to_the_end=gone):
                        for at_us, line in found:
                            at = _EPOCH + timedelta(microseconds=at_us)
                            yield ReplicaLine(folder.name, at, "stdout", line)
                        await asyncio.sleep(0)
                    if gone:
                        self._logs.pop(folder).file.close()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for log in self._logs.values():
                log.file.close()

    def _folders(self) -> list[Path]:
        return sorted(self._root.iterdir()) if self._root.is_dir() else []


def _time_us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _cut(data: bytes) -> list[bytes]:
    r"""Lines without their ends; cut where they are too long. Only \n ends one."""
    if not data:
        return []
    lines = data.removesuffix(b"\n").split(b"\n")
    return [
        line[start : start + _LONGEST_LINE] for line in lines for start in range(0, max(len(line), 1), _LONGEST_LINE)
    ]
