"""The code of a commit, in memory where it is small and plain, else on the disk.

Two hundred small files cost more to write and read again than all the rest of a build.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

import zstandard

from slipway_builder.images.contents import (
    file_path_problem,
    relative_file_path,
    requirements_file,
    safe_file_path,
    unpack_code,
)
from slipway_builder.images.layers import Entry, tree_entries
from slipway_builder.images.protocol import REQUIREMENTS_FILES
from slipway_runtime.code_archive import archive_form

_MOST_BYTES: Final = 32 * 1024 * 1024
_MOST_ARCHIVE_BYTES: Final = 16 * 1024 * 1024
_MAX_WINDOW: Final = 2**27


class CodeTree(Protocol):
    """The files of a commit."""

    def requirements(self) -> str | None:
        """Name of the file whose requirements are installed, or None. Blocking."""
        ...

    def place(self, path: str) -> PurePosixPath:
        """Where a chosen file goes, below the work directory. Raises `BuildError`. Blocking."""
        ...

    def entries(self, prefix: PurePosixPath, skip: frozenset[PurePosixPath] = frozenset()) -> Iterator[Entry]:
        """Everything, as it lies below `prefix` in the image, but what `skip` names. Blocking."""
        ...


def open_code(archive: Path, folder: Path) -> CodeTree:
    """Read an archive; `folder` is where it is unpacked if it does not stay in memory. Blocking.

    Raises `BuildError` for a damaged archive and for members that would leave the tree.
    """
    return _plain_tree(archive) or UnpackedTree(archive, folder)


class UnpackedTree:
    """Code on the disk."""

    def __init__(self, archive: Path, folder: Path) -> None:
        unpack_code(archive, folder)
        self._root = folder.resolve()

    def requirements(self) -> str | None:
        """See `CodeTree`."""
        found = requirements_file(self._root)
        return None if found is None else found.name

    def place(self, path: str) -> PurePosixPath:
        """See `CodeTree`."""
        return PurePosixPath(safe_file_path(self._root, path).relative_to(self._root))

    def entries(self, prefix: PurePosixPath, skip: frozenset[PurePosixPath] = frozenset()) -> Iterator[Entry]:
        """See `CodeTree`."""
        return tree_entries(self._root, prefix, skip=skip)


class PlainTree:
    """Code in memory: regular files and directories with harmless names."""

    def __init__(self) -> None:
        self._files: dict[PurePosixPath, tuple[bytes, int]] = {}
        self._folders: set[PurePosixPath] = {PurePosixPath(".")}

    def add(self, member: tarfile.TarInfo, content: bytes | None) -> bool:
        """Take a member (`content` None = a directory); False when it is not harmless."""
        path = PurePosixPath(member.name)
        if not member.name or path.is_absolute() or ".." in path.parts or "\0" in member.name:
            return False
        if path in self._files or any(parent in self._files for parent in path.parents):
            return False
        self._folders.update(path.parents)
        if content is None:
            self._folders.add(path)
            return True
        self._files[path] = (content, 0o755 if member.mode & 0o111 else 0o644)
        return path not in self._folders

    def requirements(self) -> str | None:
        """See `CodeTree`."""
        return next((name for name in REQUIREMENTS_FILES if PurePosixPath(name) in self._files), None)

    def place(self, path: str) -> PurePosixPath:
        """See `CodeTree`."""
        found = relative_file_path(path)
        blocked = next((one for one in found.parents if one in self._files), None)
        if found in self._folders or blocked is not None:
            raise file_path_problem(path, blocked)
        return found

    def entries(self, prefix: PurePosixPath, skip: frozenset[PurePosixPath] = frozenset()) -> Iterator[Entry]:
        """See `CodeTree`."""
        for folder in self._folders:
            if folder.parts:
                yield Entry(prefix / folder)
        for path, (content, mode) in self._files.items():
            if path not in skip:
                yield Entry(prefix / path, partial(io.BytesIO, content), len(content), mode=mode)


def _plain_tree(archive: Path) -> PlainTree | None:
    """The archive in memory; None when it is large, damaged, or has anything that the disk must judge."""
    if archive.stat().st_size > _MOST_ARCHIVE_BYTES:
        return None
    tree = PlainTree()
    left = _MOST_BYTES
    try:
        with ExitStack() as stack:
            file = stack.enter_context(archive.open("rb"))
            if archive_form(archive) == "tar.zst":
                reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(file)
                tar = stack.enter_context(tarfile.open(fileobj=stack.enter_context(reader), mode="r|"))
            else:
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|gz"))
            for member in tar:
                left -= member.size
                source = tar.extractfile(member) if member.isreg() and left >= 0 else None
                if source is None and not member.isdir():
                    return None
                if not tree.add(member, None if source is None else source.read()):
                    return None
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OSError):
        return None
    return tree
