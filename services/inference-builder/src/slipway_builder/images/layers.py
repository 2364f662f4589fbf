"""Layers of images: the same content gives the same bytes, whenever and wherever it is written.

Names are sorted, times are 0, the owner is the endpoint's user, and modes say only whether a file can be executed.
"""

import asyncio
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, cast

from slipway_builder.images.protocol import ENDPOINT_UID, FileSource
from slipway_builder.images.registry.manifests import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from slipway_kit.errors import Unavailable
from slipway_kit.tasks import run_blocking

_GZIP_LEVEL: Final = 1
"""Twice as fast as the next level on code, for a tenth more bytes."""
_PLAIN_BYTES: Final = 4 * 1024 * 1024
"""Up to here a layer is not compressed: that takes longer than sending the bytes that it would save."""
_GZIP_WINDOW: Final = 31
"""With gzip's header, which zlib writes without a time."""
_BUFFER_BYTES: Final = 256 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
_TAR_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer: a file when `open` is given, a link when `link` is, else a directory."""

    path: PurePosixPath
    """Relative to the root of the image."""
    open: Callable[[], IO[bytes]] | None = None
    size: int = 0
    link: str | None = None
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. `diff_id` names its bytes before compression."""

    descriptor: Descriptor
    diff_id: str
    about: str
    """For the image's history."""


def tree_entries(root: Path, prefix: PurePosixPath, *, skip: frozenset[PurePosixPath] = frozenset()) -> Iterator[Entry]:
    """Everything below `root`, as it lies below `prefix` in the image; `skip` is relative to `root`. Blocking."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        here = Path(folder)
        for name in sorted([*folders, *files]):
            path = here / name
            relative = PurePosixPath(path.relative_to(root))
            if relative in skip:
                continue
            if path.is_symlink():
                yield Entry(prefix / relative, link=str(path.readlink()))
            elif path.is_dir():
                yield Entry(prefix / relative)
            else:
                found = path.stat()
                mode = 0o755 if found.st_mode & 0o111 else 0o644
                yield Entry(prefix / relative, partial(_opened, path), found.st_size, mode=mode)


def file_entry(path: PurePosixPath, content: bytes, *, mode: int = 0o644) -> Entry:
    """A small file."""
    return Entry(path, partial(io.BytesIO, content), len(content), mode=mode)


def write_layer(target: Path, entries: Iterable[Entry], about: str) -> Layer:
    """Write a layer into a file, compressed if it is large. Directories on the way to an entry are added. Blocking."""
    wanted = {entry.path: entry for entry in entries}
    for path in list(wanted):
        for parent in path.parents[:-1]:
            wanted.setdefault(parent, Entry(parent))
    with target.open("wb") as file:
        packer = _Packer(file, compress=sum(entry.size for entry in wanted.values()) > _PLAIN_BYTES)
        with tarfile.open(
            fileobj=cast(BinaryIO, packer),
            mode="w|",
            bufsize=_BUFFER_BYTES,
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
        ) as tar:
            for path in sorted(wanted, key=lambda one: one.parts):
                _add(tar, wanted[path])
        packer.finish()
        return Layer(packer.descriptor, packer.diff_id, about)


class FileLayer:
    """A layer of large files, made while it is sent: it never lies on a disk or in memory as a whole.

    It is not compressed: what models are made of hardly gets smaller, and one hash is then enough.
    """

    def __init__(self, files: Sequence[tuple[PurePosixPath, FileSource]], progress: Callable[[int], None]) -> None:
        """`files`: paths in the image, relative to its root. `progress` gets the bytes that were read."""
        self._files = sorted(files, key=lambda one: one[0].parts)
        self._progress = progress
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def about(self) -> str:
        """Names of the files."""
        return ", ".join(path.name for path, _ in self._files)

    @property
    def layer(self) -> Layer:
        """The layer, once all chunks were read."""
        digest = f"sha256:{self._hash.hexdigest()}"
        return Layer(Descriptor(OCI_LAYER, digest, self._size), digest, self.about)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of the layer. Raises `Unavailable` when a file is not what its store said it is."""
        folders: set[PurePosixPath] = set()
        for path, file in self._files:
            new = set(path.parents[:-1]) - folders
            folders |= new
            head = b"".join(_header(Entry(one)) for one in sorted(new, key=lambda one: one.parts))
            yield await self._hashed(head + _header(Entry(path, io.BytesIO, file.size, mode=0o644)))
            async for chunk in self._content(path, file):
                yield chunk
            yield await self._hashed(bytes(-file.size % _TAR_BLOCK))
        yield await self._hashed(bytes(2 * _TAR_BLOCK))

    async def _content(self, path: PurePosixPath, file: FileSource) -> AsyncIterator[bytes]:
        own = hashlib.sha256() if file.sha256 else None
        size = 0
        async for chunk in _gathered(file.open()):
            size += len(chunk)
            if size > file.size:
                break
            hashing = [self._hashed(chunk)]
            if own is not None:
                hashing.append(run_blocking(_update, own, chunk))
            await asyncio.gather(*hashing)
            self._progress(len(chunk))
            yield chunk
        if size != file.size:
            raise Unavailable(f"The file {path.name} should have {file.size} bytes; the store gave {size}.")
        if own is not None and own.hexdigest() != file.sha256:
            raise Unavailable(f"The file {path.name} does not have the content that its datum was stored with.")

    async def _hashed(self, data: bytes) -> bytes:
        self._size += len(data)
        return await run_blocking(_update, self._hash, data)


class _Packer:
    """Hashes what is written, and compresses it if that is wanted, into a file."""

    def __init__(self, file: BinaryIO, *, compress: bool) -> None:
        self._file = file
        self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW) if compress else None
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256() if compress else self._plain
        self._size = 0

    @property
    def descriptor(self) -> Descriptor:
        """Of the bytes in the file, once finished."""
        media_type = OCI_LAYER if self._compressor is None else OCI_LAYER_GZIP
        return Descriptor(media_type, f"sha256:{self._packed.hexdigest()}", self._size)

    @property
    def diff_id(self) -> str:
        """Of the bytes before compression, once finished."""
        return f"sha256:{self._plain.hexdigest()}"

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        self._plain.update(data)
        if self._compressor is None:
            self._size += len(data)
            self._file.write(data)
        else:
            self._put(self._compressor.compress(data))
        return len(data)

    def finish(self) -> None:
        """Write what is held back."""
        if self._compressor is not None:
            self._put(self._compressor.flush())

    def _put(self, packed: bytes) -> None:
        self._packed.update(packed)
        self._size += len(packed)
        self._file.write(packed)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _member(entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(str(entry.path))
    member.uid = member.gid = ENDPOINT_UID
    member.mode = entry.mode
    member.size = entry.size
    if entry.link is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
    elif entry.open is None:
        member.type = tarfile.DIRTYPE
    return member


def _header(entry: Entry) -> bytes:
    return _member(entry).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    if entry.open is None:
        tar.addfile(_member(entry))
        return
    with entry.open() as file:
        tar.addfile(_member(entry), file)


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Small chunks put together, so that a thread is worth its while."""
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _update(digest: "hashlib._Hash", data: bytes) -> bytes:
    digest.update(data)
    return data
