"""Folders for temporary files of one process, which the next one deletes when this one ends hard."""

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO
from uuid import uuid4

from slipway_kit.tasks import run_blocking

_LOCK = ".lock"
_FOREIGN_SECONDS = 24 * 3600.0
"""What lies beside such folders and is older was left by something that did not lock its files."""


class WorkFolder:
    """A folder below `root` that is this process's own as long as it lives: the kernel holds its lock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._held: tuple[Path, IO[bytes]] | None = None

    @property
    def path(self) -> Path:
        """The folder, made at the first use. Blocking for a moment."""
        if self._held is None:
            self._held = _claim(self._root)
        return self._held[0]

    async def sweep(self) -> list[str]:
        """Delete the folders of processes that have ended; returns their names."""
        return await run_blocking(_sweep, self._root)

    def close(self) -> None:
        """Delete the folder. Blocking."""
        if self._held is not None:
            folder, lock = self._held
            self._held = None
            _delete(folder, lock)


def _claim(root: Path) -> tuple[Path, IO[bytes]]:
    root.mkdir(parents=True, exist_ok=True)
    while True:
        folder = root / uuid4().hex
        lock = _try_lock(folder.with_suffix(_LOCK))
        if lock is not None:  # else a sweep has just taken the new file for one without an owner
            folder.mkdir()
            return folder, lock


def _sweep(root: Path) -> list[str]:
    swept: list[str] = []
    if not root.is_dir():
        return swept
    for path in sorted(root.glob(f"*{_LOCK}")):
        lock = _try_lock(path)
        if lock is not None:
            _delete(path.with_suffix(""), lock)
            swept.append(path.stem)
    for path in sorted(root.iterdir()):
        if path.suffix == _LOCK or path.with_suffix(_LOCK).exists():
            continue
        try:
            age = time.time() - path.lstat().st_mtime
        except OSError:
            continue
        if age > _FOREIGN_SECONDS:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            swept.append(path.name)
    return swept


def _try_lock(path: Path) -> IO[bytes] | None:
    lock = path.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
            return lock
    except OSError:  # held by a process that lives, or deleted by one that swept before
        pass
    lock.close()
    return None


def _delete(folder: Path, lock: IO[bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(_LOCK).unlink(missing_ok=True)
    lock.close()
