"""Files below one root directory. Blocking; `LocalStore` calls it from threads.

Every path is walked from a descriptor of the root with O_NOFOLLOW, segment by segment: neither a key nor a
symbolic link, even one that is put there between two steps, leads outside.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from slipway_kit.errors import Invalid
from slipway_storage.keys import check_key

PRIVATE_DIRECTORY = ".slipway"
"""Below the root; holds what is not visible yet. No key may lie in it."""

TEMPORARY = f"{PRIVATE_DIRECTORY}/incoming"
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PUBLISH_TRIES = 10


def check_local_key(key: str) -> str:
    """A key that is legal and does not lie in the store's own directory. Raises `Invalid`."""
    check_key(key)
    if key.split("/", 1)[0] == PRIVATE_DIRECTORY:
        raise Invalid(f"Keys below {PRIVATE_DIRECTORY}/ belong to the store itself.", field="key")
    return key


class OpenFile:
    """A descriptor that threads share safely: it is never closed while another thread uses its number."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = Lock()
        self.stat = os.fstat(descriptor)

    def write(self, data: bytes | bytearray) -> None:
        """Append all of `data`."""
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._open(), view) :]

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`."""
        with self._lock:
            return os.pread(self._open(), size, position)

    def sync(self) -> os.stat_result:
        """Bytes are on the disk when this returns."""
        with self._lock:
            os.fsync(self._open())
            return os.fstat(self._open())

    def close(self) -> None:
        """Close once; later calls do nothing."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor


class LocalFiles:
    """The files of one store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of a directory below the root ("" is the root).

        Raises FileNotFoundError or NotADirectoryError (also for a symbolic link).
        """
        if create:
            self._root.mkdir(parents=True, exist_ok=True)
        current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in path.split("/") if path else ():
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=current)
                        os.fsync(current)
                below = os.open(segment, _DIRECTORY_FLAGS, dir_fd=current)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def open(self, path: str) -> OpenFile | None:
        """A regular file for reading, or None."""
        parent, _, name = path.rpartition("/")
        try:
            with self.directory(parent) as directory:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            if self.stat(path) is None:
                return None
            raise
        file = OpenFile(descriptor)
        if not stat.S_ISREG(file.stat.st_mode):
            file.close()
            return None
        return file

    def stat(self, path: str) -> os.stat_result | None:
        """The status of a regular file, or None."""
        parent, _, name = path.rpartition("/")
        try:
            with self.directory(parent) as directory:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def create_temporary(self) -> tuple[str, OpenFile]:
        """A new empty file on the root's file system: its name in the temporary directory, and the open
        file."""
        name = secrets.token_hex(16)
        with self.directory(TEMPORARY, create=True) as directory:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return name, OpenFile(os.open(name, flags, 0o640, dir_fd=directory))

    def publish(self, temporary: str, path: str) -> None:
        """Rename a synced temporary file to its place, atomically and durably. Raises `Invalid` where it
        cannot lie."""
        parent, _, name = path.rpartition("/")
        for attempt in range(_PUBLISH_TRIES):
            try:
                with self.directory(TEMPORARY) as source, self.directory(parent, create=True) as target:
                    os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=target)
                    os.fsync(target)
                    return
            except FileNotFoundError:
                # A delete removed the directory that had become empty between our two steps.
                if attempt == _PUBLISH_TRIES - 1:
                    raise
            except (NotADirectoryError, IsADirectoryError):
                raise Invalid(
                    f"{path!r} cannot be stored: a part of it is an object, or it is a directory of other "
                    f"objects. "
                    "Choose another name.",
                    field="key",
                ) from None

    def remove_temporary(self, name: str) -> None:
        """Remove a temporary file, if it is there."""
        with suppress(FileNotFoundError), self.directory(TEMPORARY) as directory:
            os.unlink(name, dir_fd=directory)

    def delete(self, path: str) -> None:
        """Remove a file and the directories that become empty. What is not there is no error."""
        parent, _, name = path.rpartition("/")
        if self.stat(path) is None:
            return
        with suppress(FileNotFoundError), self.directory(parent) as directory:
            os.unlink(name, dir_fd=directory)
        while parent:
            above, _, name = parent.rpartition("/")
            try:
                with self.directory(above) as directory:
                    os.rmdir(name, dir_fd=directory)
            except OSError:
                return
            parent = above

    def walk(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Every regular file below a directory with a legal key, and its status."""
        try:
            with self.directory(prefix) as start:
                yield from self._walk(start, f"{prefix}/" if prefix else "")
        except (FileNotFoundError, NotADirectoryError):
            return

    def _walk(self, start: int, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        for directory, names, files, descriptor in os.fwalk(".", dir_fd=start, follow_symlinks=False):
            below = directory[2:]
            if not prefix and not below and PRIVATE_DIRECTORY in names:
                names.remove(PRIVATE_DIRECTORY)
            for name in files:
                key = f"{prefix}{below}/{name}" if below else f"{prefix}{name}"
                with suppress(FileNotFoundError, Invalid):
                    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield check_key(key), found

    def sweep_temporary(self, older_than: float) -> int:
        """Remove temporary files not written since `older_than` (seconds since the epoch); how many."""
        removed = 0
        with suppress(FileNotFoundError), self.directory(TEMPORARY) as directory:
            for name in os.listdir(directory):
                with suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime < older_than:
                        os.unlink(name, dir_fd=directory)
                        removed += 1
        return removed
