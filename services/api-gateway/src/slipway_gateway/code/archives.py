"""Archives: a commit's tar is hashed and compressed while it lies on disk, and stored once under its hash."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from slipway_gateway.code.domain import ArchiveFormat
from slipway_gateway.code.mirror import Mirror
from slipway_kit.tasks import run_blocking
from slipway_storage import ObjectStore
from slipway_storage.keys import code_key

_CHUNK = 1024**2
_LEVEL = 3
ARCHIVE_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class StoredArchive:
    """An archive in the object store."""

    sha256: str
    key: str
    format: ArchiveFormat
    size: int
    stored_sha256: str


def package_key(sha256: str) -> str:
    """Where an ad-hoc package lies: beside the archives of commits, named by the hash of the package."""
    return code_key(sha256).removesuffix(".tar.zst") + ".tar.gz"


async def store_commit(store: ObjectStore, mirror: Mirror, sha: str, work_dir: Path | None) -> StoredArchive:
    """Archive a commit from its mirror. Raises `SnapshotRefused`, `GitError`, `Unavailable`."""
    await mirror.check_archivable(sha)
    with tempfile.TemporaryDirectory(prefix="slipway-archive-", dir=work_dir) as folder:
        tar, packed = Path(folder) / "tar", Path(folder) / "tar.zst"
        with tar.open("wb") as output:
            await mirror.archive(sha, output, timeout=ARCHIVE_TIMEOUT_SECONDS)
        tar_hash, stored_hash = await run_blocking(_compress, tar, packed)
        key = code_key(tar_hash)
        size = packed.stat().st_size
        if await store.head(key) is None:
            await store.put(key, packed)
        return StoredArchive(tar_hash, key, "tar.zst", size, stored_hash)


def _compress(tar: Path, packed: Path) -> tuple[str, str]:
    """Compress `tar`; returns the SHA-256 of both. One thread and one level: the same tar gives the same bytes."""
    tar_hash, stored_hash = hashlib.sha256(), hashlib.sha256()
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=tar.stat().st_size)
    with tar.open("rb") as source, packed.open("wb") as target:
        while chunk := source.read(_CHUNK):
            tar_hash.update(chunk)
            _write(target, compressor.compress(chunk), stored_hash)
        _write(target, compressor.flush(), stored_hash)
    return tar_hash.hexdigest(), stored_hash.hexdigest()


def _write(target: BinaryIO, data: bytes, digest: "hashlib._Hash") -> None:
    digest.update(data)
    target.write(data)
