"""Unpacks a commit's archive. What is in it was written by users: every member is checked."""

import os
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import zstandard

ArchiveForm = Literal["tar.zst", "tar.gz"]

_MAX_WINDOW: Final = 2**27
_COPY_BYTES: Final = 1024 * 1024
_MAX_BYTES: Final = 64 * 1024**3
_MAX_MEMBERS: Final = 1_000_000
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class ArchiveError(ValueError):
    """An archive is damaged, or holds what may not be in an archive of code."""


def archive_form(archive: Path) -> ArchiveForm:
    """How an archive is compressed, by its first bytes. Blocking."""
    with archive.open("rb") as file:
        return "tar.zst" if file.read(len(_ZSTD_MAGIC)) == _ZSTD_MAGIC else "tar.gz"


def unpack(archive: Path, target: Path, form: ArchiveForm, *, shared: bool = False, max_bytes: int = _MAX_BYTES) -> int:
    """Unpack into `target`; the number of members. Blocking.

    Members and links that would leave the tree, devices and pipes are refused, and an archive that grows beyond
    `max_bytes` before it has filled a disk. With `shared`, files and directories
    become readable and writable for everybody, for a run whose user is not ours; the directory around them is then
    private. Raises `ArchiveError`.
    """
    count = 0
    try:
        with ExitStack() as stack:
            file = stack.enter_context(archive.open("rb"))
            if form == "tar.zst":
                reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(file)
                tar = stack.enter_context(tarfile.open(fileobj=stack.enter_context(reader), mode="r|"))
            else:
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|gz"))
            tree = _Tree(target, extra_mode=0o022 if shared else 0)
            for member in tar:
                count += 1
                max_bytes -= member.size
                if max_bytes < 0 or count > _MAX_MEMBERS:
                    raise ValueError("it holds more than an archive of code may")
                tree.add(tar, member)
            tree.finish()
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OSError) as error:
        raise ArchiveError(f"The commit's archive cannot be unpacked: {error}") from error
    return count


class _Tree:
    """Writes members below one directory.

    Symbolic links are made last: until then no path leads through one, so nothing can be written through a link.
    The standard library's own filters came with Python 3.11.4 and were found to be passable since.
    """

    def __init__(self, root: Path, extra_mode: int) -> None:
        self._root = root.resolve()
        self._extra_mode = extra_mode
        self._links: list[tuple[Path, str]] = []

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member. Raises `ValueError` for what may not be in an archive of code."""
        path = self._inside(member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755 | self._extra_mode)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            self._links.append((path, member.linkname))
        elif member.islnk():
            os.link(self._inside(member.linkname), path, follow_symlinks=False)
        elif member.isfile():
            path.unlink(missing_ok=True)
            source = tar.extractfile(member)
            if source is None:
                raise ValueError(f"{member.name} has no content")
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
            path.chmod((0o755 if member.mode & 0o111 else 0o644) | self._extra_mode)
            os.utime(path, (member.mtime, member.mtime))
        else:
            raise ValueError(f"{member.name} is neither a file, a directory nor a link")

    def finish(self) -> None:
        """Make the links. Raises `ValueError` when one leads out of the tree."""
        for path, target in self._links:
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        leaving = [(path, target) for path, target in self._links if not self._stays_inside(path, target)]
        for path, _ in leaving:
            path.unlink()
        if leaving:
            named = ", ".join(f"{path.relative_to(self._root)} to {target}" for path, target in leaving[:3])
            raise ValueError(f"links lead out of the tree: {named}")

    def _stays_inside(self, path: Path, target: str) -> bool:
        return not Path(target).is_absolute() and Path(os.path.realpath(path)).is_relative_to(self._root)

    def _inside(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not name or name.startswith("/") or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} would leave the tree")
        return self._root.joinpath(*parts)
