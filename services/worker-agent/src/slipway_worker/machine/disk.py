"""Room on the disk of the worker's home."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway_schemas.workers import DiskReport
from slipway_worker.settings import DiskSettings

_BLOCK: Final = 512
_GIB: Final = 1024**3


@dataclass(frozen=True)
class Disk:
    """The file system that the worker's home lies on."""

    home: Path
    settings: DiskSettings

    def report(self) -> DiskReport:
        """How much is free, and whether that is too little to take work."""
        found = os.statvfs(self.home)
        free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return DiskReport(free_bytes=free, total_bytes=total, full=free < self.mark(total))

    def mark(self, total_bytes: int) -> int:
        """Below this many free bytes the worker takes no work."""
        return max(self.settings.min_free_bytes, int(total_bytes * self.settings.min_free_share))


def gib(size: int) -> str:
    """A size in words."""
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 1024**2:.0f} MiB"


def bytes_below(roots: Iterable[Path], most_entries: int) -> int | None:
    """Bytes that the files below these directories occupy; None when there are more than `most_entries`."""
    total = 0
    seen = 0
    waiting = [os.fspath(root) for root in roots]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        seen += len(entries)
        if seen > most_entries:
            return None
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
            except OSError:
                continue
    return total
