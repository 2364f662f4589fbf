"""The worker's own lines of an attempt's log, with their place among the lines of the run."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from slipway_kit.clock import Clock
from slipway_kit.logging import get_logger

_LOG = get_logger()
MAX_STATUS_BYTES: Final = 8 * 1024


class StatusEntry(NamedTuple):
    """One status line and where it stands: after `position` steps of the raw spool (see `SpoolReader`)."""

    position: int
    time_us: int
    text: str


class StatusJournal:
    """Keeps status lines on disk with their place, so that reading again gives the same sequence of lines.

    A line is written before anybody may send it. The end of a file that a crash tore is cut off: that line was
    never sent.
    """

    def __init__(self, path: Path, clock: Clock, redact: Callable[[str], str]) -> None:
        self._path = path
        self._clock = clock
        self._redact = redact
        self.entries = _read(path)

    def say(self, text: str, position: int) -> None:
        """Add a line at this place; line breaks become spaces, secrets are masked."""
        line = " ".join(self._redact(text).split())
        line = line.encode()[:MAX_STATUS_BYTES].decode(errors="ignore")
        if self.entries:
            position = max(position, self.entries[-1].position)
        entry = StatusEntry(position, int(self._clock.now().timestamp() * 1_000_000), line)
        try:
            self._append(json.dumps(entry).encode() + b"\n")
        except OSError as error:
            # What is not on disk must not be sent; a status line is not worth the attempt.
            _LOG.warning("status_line_not_kept", text=line, error=str(error))
            return
        self.entries.append(entry)

    def _append(self, line: bytes) -> None:
        before = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            if self._path.exists():
                os.truncate(self._path, before)
            raise

    def last_text(self) -> str:
        """The newest line; empty when there is none."""
        return self.entries[-1].text if self.entries else ""


def _read(path: Path) -> list[StatusEntry]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return [StatusEntry(*json.loads(line)) for line in data[:whole].splitlines()]
