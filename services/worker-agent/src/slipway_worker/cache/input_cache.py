"""Input files that this worker has already fetched, content once on disk."""

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from slipway_kit.logging import get_logger

_LOG = get_logger()
_FICLONE: Final = 0x40049409


class CachedFile(BaseModel):
    """What is known of cached bytes. `modified_ns` tells whether somebody wrote to them since."""

    model_config = ConfigDict(frozen=True)

    key: str
    size: int
    md5: str
    sha1: str
    sha256: str
    filename: str | None = None
    modified_ns: int = 0


Fill = Callable[[Path], Awaitable[CachedFile]]
"""Writes the content to the path and tells what it is."""


@dataclass(frozen=True)
class _Entry:
    directory: Path
    size: int
    used_at: float


class InputCache:
    """Content by key. Entries in use are pinned; the others go by age when there is too much of them.

    A file is placed into an attempt by reflink where the file system can, else by hard link, else by copy.
    Content that a run has written to through a hard link is noticed and fetched again.
    """

    def __init__(self, root: Path, max_bytes: int, high_water: float, low_water: float) -> None:
        self._root = root
        self._high = max_bytes * high_water
        self._low = max_bytes * low_water
        self._locks: dict[str, asyncio.Lock] = {}
        self._pins: dict[Path, int] = {}
        self._evicting = asyncio.Lock()

    @asynccontextmanager
    async def entry(self, key: str, fill: Fill) -> AsyncIterator[tuple[Path, CachedFile, bool]]:
        """The content of `key`, fetched when it is missing: its path, what it is, and whether it was there.

        It stays until the block is left.
        """
        directory = self._directory(key)
        self._pins[directory] = self._pins.get(directory, 0) + 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                known = await asyncio.to_thread(_read_entry, directory, key)
                hit = known is not None
                if known is None:
                    known = await self._fill(directory, fill)
            await asyncio.to_thread(os.utime, directory)
            yield directory / "content", known, hit
        finally:
            self._pins[directory] -= 1
            if not self._pins[directory]:
                del self._pins[directory]
                self._locks.pop(key, None)

    async def _fill(self, directory: Path, fill: Fill) -> CachedFile:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(parents=True)
        content = directory / "content"
        known = await fill(content)
        content.chmod(0o444)
        known = known.model_copy(update={"modified_ns": content.stat().st_mtime_ns})
        temporary = directory / ".meta"
        temporary.write_text(known.model_dump_json())
        temporary.rename(directory / "meta.json")
        await self.evict()
        return known

    async def has(self, key: str) -> bool:
        """Whether the content of `key` is there."""
        return await asyncio.to_thread(_read_entry, self._directory(key), key) is not None

    async def make_room(self, wanted_bytes: int) -> int:
        """Remove the least recently used content that nobody uses, until so much is freed; how much that was."""
        async with self._evicting:
            entries = await asyncio.to_thread(lambda: list(_entries(self._root)))
            freed = 0
            for entry in sorted(entries, key=lambda entry: entry.used_at):
                if freed >= wanted_bytes:
                    break
                if entry.directory not in self._pins:
                    await asyncio.to_thread(shutil.rmtree, entry.directory, ignore_errors=True)
                    freed += entry.size
            return freed

    async def evict(self) -> None:
        """When there is more than the high water mark, remove the least recently used down to the low one."""
        async with self._evicting:
            entries = await asyncio.to_thread(lambda: list(_entries(self._root)))
            total = sum(entry.size for entry in entries)
            if total <= self._high:
                return
            for entry in sorted(entries, key=lambda entry: entry.used_at):
                if total <= self._low:
                    return
                if entry.directory in self._pins:
                    continue
                await asyncio.to_thread(shutil.rmtree, entry.directory, ignore_errors=True)
                total -= entry.size
                _LOG.info("cache_entry_evicted", size=entry.size)

    async def clear(self) -> None:
        """Remove everything that is not in use (`VH_CLEAN`)."""
        async with self._evicting:
            for entry in await asyncio.to_thread(lambda: list(_entries(self._root))):
                if entry.directory not in self._pins:
                    await asyncio.to_thread(shutil.rmtree, entry.directory, ignore_errors=True)

    def _directory(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._root / digest[:2] / digest


def place(content: Path, target: Path) -> None:
    """Make `target` the same bytes as `content`, read-only, sharing the disk space where that is possible."""
    target.unlink(missing_ok=True)
    if _reflink(content, target):
        return
    try:
        os.link(content, target)
    except OSError:
        shutil.copyfile(content, target)
        target.chmod(0o444)


def _reflink(content: Path, target: Path) -> bool:
    with content.open("rb") as source, target.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
            os.fchmod(copy.fileno(), 0o444)
    if not cloned:
        target.unlink()
    return cloned


def _read_entry(directory: Path, key: str) -> CachedFile | None:
    try:
        known = CachedFile.model_validate_json((directory / "meta.json").read_bytes())
        status = (directory / "content").stat()
    except (FileNotFoundError, ValueError):
        return None
    untouched = (status.st_size, status.st_mtime_ns) == (known.size, known.modified_ns)
    return known if known.key == key and untouched else None


def _entries(root: Path) -> Iterator[_Entry]:
    if not root.is_dir():
        return
    for shelf in root.iterdir():
        for directory in shelf.iterdir():
            try:
                size = (directory / "content").stat().st_size
                yield _Entry(directory, size, directory.stat().st_mtime)
            except FileNotFoundError:
                continue
