"""Looks through the outputs directory without ever following a link: user code owns what is in it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipway_schemas.attempts import file_name_problem

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_BITS: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class FoundFile:
    """A regular file in the outputs. `name` is relative to the outputs directory, with `/`."""

    name: str
    size: int
    modified_ns: int
    inode: int
    writable: bool

    @property
    def version(self) -> tuple[int, int, int]:
        """Changes when the file is written or replaced."""
        return self.size, self.modified_ns, self.inode


@dataclass(frozen=True)
class SkippedEntry:
    """Something in the outputs that cannot be uploaded."""

    name: str
    why: str


def walk(root: Path) -> Iterator[FoundFile | SkippedEntry]:
    """Everything below `root`, by directory, in the order of names. Files that vanish meanwhile are left out."""
    try:
        descriptor = os.open(root, _DIRECTORY)
    except OSError:
        return
    try:
        yield from _walk(descriptor, "")
    finally:
        os.close(descriptor)


def _walk(directory: int, prefix: str) -> Iterator[FoundFile | SkippedEntry]:
    for entry in sorted(os.listdir(directory)):
        name = prefix + entry
        try:
            status = os.stat(entry, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                child = os.open(entry, _DIRECTORY, dir_fd=directory)
                try:
                    yield from _walk(child, f"{name}/")
                finally:
                    os.close(child)
                continue
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            yield SkippedEntry(name, f"it is {kind}")
        elif not _is_text(name):
            yield SkippedEntry(name.encode(errors="replace").decode(), "its name is not valid UTF-8")
        elif problem := file_name_problem(name):
            yield SkippedEntry(name, f"{problem[0].lower()}{problem[1:].removesuffix('.')}")
        else:
            writable = bool(status.st_mode & _WRITE_BITS)
            yield FoundFile(name, status.st_size, status.st_mtime_ns, status.st_ino, writable)


@contextmanager
def opened(root: Path, name: str) -> Iterator[int]:
    """A descriptor of a regular file, every directory on the way opened without following links.

    Raises `OSError` when the file is gone or is something else now.
    """
    with _parent(root, name) as (directory, last):
        descriptor = os.open(last, _FILE, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{name} is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)


def remove(root: Path, name: str, version: tuple[int, int, int]) -> None:
    """Delete a file if it is still the one that was uploaded."""
    try:
        with _parent(root, name) as (directory, last):
            status = os.stat(last, dir_fd=directory, follow_symlinks=False)
            if (status.st_size, status.st_mtime_ns, status.st_ino) == version:
                os.unlink(last, dir_fd=directory)
    except OSError:
        return


@contextmanager
def _parent(root: Path, name: str) -> Iterator[tuple[int, str]]:
    *directories, last = name.split("/")
    descriptor = os.open(root, _DIRECTORY)
    try:
        for directory in directories:
            child = os.open(directory, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = child
        yield descriptor, last
    finally:
        os.close(descriptor)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
