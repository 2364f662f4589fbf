"""The local store: objects are files below a directory, written whole or not at all."""

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self

from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import NotFound
from slipway_storage.config import LocalStoreConfig
from slipway_storage.keys import check_prefix
from slipway_storage.local.files import LocalFiles, OpenFile, check_local_key
from slipway_storage.local.signing import Grant
from slipway_storage.local.uploads import LocalUploads, etag_of
from slipway_storage.store import (
    Audience,
    MultipartUpload,
    ObjectInfo,
    OpenUpload,
    SignedPut,
    UploadedPart,
    check_filename,
    check_lifetime,
    check_part_number,
)

CHUNK_BYTES = 1024 * 1024
_LIST_BATCH = 500


class LocalReader:
    """An open object: its bytes stay readable as they were, whatever happens to the key meanwhile."""

    def __init__(self, key: str, file: OpenFile) -> None:
        self._file = file
        self.info = ObjectInfo(
            key=key,
            size=file.stat.st_size,
            etag=etag_of(file.stat),
            modified_at=datetime.fromtimestamp(file.stat.st_mtime, UTC),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._file.close)

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from `start` up to, not including, `end`, at most 1 MiB at a time, read in a thread."""
        while start < end:
            chunk = await asyncio.to_thread(self._file.read, start, min(CHUNK_BYTES, end - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk


class LocalWriter:
    """Bytes on their way to a temporary file. Leaving the context without `commit` removes it."""

    def __init__(self, files: LocalFiles, uploads: LocalUploads) -> None:
        self._files = files
        self._uploads = uploads
        self._buffer = bytearray()
        self._name = ""
        self._file: OpenFile | None = None
        self.size = 0

    async def __aenter__(self) -> Self:
        self._name, self._file = await asyncio.to_thread(self._files.create_temporary)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._discard)

    async def write(self, data: bytes) -> None:
        """Append bytes; small ones are gathered, so that a thread is used once per MiB."""
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= CHUNK_BYTES:
            full, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self.file.write, full)

    async def commit(self, key: str) -> ObjectInfo:
        """Make the object visible; it is on the disk when this returns."""
        return await asyncio.to_thread(self._commit, key)

    async def commit_part(self, upload: MultipartUpload, number: int) -> str:
        """Keep the bytes as a part of an upload; its ETag."""
        return await asyncio.to_thread(self._commit_part, upload, number)

    async def join(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> None:
        """Append the parts of an upload."""
        await asyncio.to_thread(self._uploads.join, upload, parts, self.file)

    @property
    def file(self) -> OpenFile:
        """The temporary file."""
        if self._file is None:
            raise RuntimeError("enter the writer first: async with store.open_writer() as writer")
        return self._file

    def _commit(self, key: str) -> ObjectInfo:
        self.file.write(self._buffer)
        status = self.file.sync()
        self._files.publish(self._name, key)
        return ObjectInfo(
            key=key,
            size=status.st_size,
            etag=etag_of(status),
            modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def _commit_part(self, upload: MultipartUpload, number: int) -> str:
        self.file.write(self._buffer)
        status = self.file.sync()
        self._uploads.publish_part(upload, number, self._name)
        return etag_of(status)

    def _discard(self) -> None:
        self.file.close()
        self._files.remove_temporary(self._name)


class LocalStore:
    """A directory behind the `ObjectStore` protocol. Several processes may use one directory."""

    def __init__(self, config: LocalStoreConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._files = LocalFiles(config.path)
        self._uploads = LocalUploads(self._files)

    async def put(
        self, key: str, data: bytes | AsyncIterable[bytes] | Path, *, content_type: str | None = None
    ) -> ObjectInfo:
        """See `ObjectStore.put`. The content type is not kept: what is served is always an attachment."""
        check_local_key(key)
        async with self.open_writer() as writer:
            if isinstance(data, bytes):
                await writer.write(data)
            else:
                async for chunk in _file_chunks(data) if isinstance(data, Path) else data:
                    await writer.write(chunk)
            return await writer.commit(key)

    async def get(self, key: str) -> bytes:
        async with await self.open_reader(key) as reader:
            return b"".join([chunk async for chunk in reader.chunks(0, reader.info.size)])

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        async with await self.open_reader(key) as reader:
            stop = reader.info.size if end is None else min(end, reader.info.size)
            async for chunk in reader.chunks(start, stop):
                yield chunk

    async def head(self, key: str) -> ObjectInfo | None:
        status = await asyncio.to_thread(self._files.stat, check_local_key(key))
        if status is None:
            return None
        modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
        return ObjectInfo(key=key, size=status.st_size, etag=etag_of(status), modified_at=modified_at)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        directory = check_prefix(prefix)
        if directory:
            check_local_key(directory)
        found = self._files.walk(directory)
        while batch := await asyncio.to_thread(lambda: list(islice(found, _LIST_BATCH))):
            for key, status in batch:
                modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield ObjectInfo(key=key, size=status.st_size, etag=etag_of(status), modified_at=modified_at)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._files.delete, check_local_key(key))

    async def sign_get(
        self, key: str, *, expires: timedelta, filename: str | None = None, audience: Audience = "public"
    ) -> str:
        name = None if filename is None else check_filename(filename)
        return self._sign(
            Grant("get", self.config.id, check_local_key(key), self._end(expires), filename=name), audience
        )

    async def sign_put(
        self, key: str, *, expires: timedelta, size: int | None = None, audience: Audience = "public"
    ) -> SignedPut:
        grant = Grant("put", self.config.id, check_local_key(key), self._end(expires), size=size)
        return SignedPut(url=self._sign(grant, audience))

    async def create_multipart(self, key: str, *, content_type: str | None = None) -> MultipartUpload:
        upload = MultipartUpload(key=check_local_key(key), upload_id=secrets.token_hex(16))
        await asyncio.to_thread(self._uploads.create, upload.upload_id, key)
        return upload

    async def sign_part(
        self,
        upload: MultipartUpload,
        number: int,
        *,
        expires: timedelta,
        size: int | None = None,
        audience: Audience = "public",
    ) -> SignedPut:
        grant = Grant(
            "part",
            self.config.id,
            check_local_key(upload.key),
            self._end(expires),
            size=size,
            upload_id=upload.upload_id,
            part_number=check_part_number(number),
        )
        return SignedPut(url=self._sign(grant, audience))

    async def list_parts(self, upload: MultipartUpload) -> Sequence[UploadedPart]:
        return await asyncio.to_thread(self._uploads.parts, upload)

    async def complete_multipart(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> ObjectInfo:
        async with self.open_writer() as writer:
            await writer.join(upload, parts)
            info = await writer.commit(upload.key)
        await asyncio.to_thread(self._uploads.remove, upload.upload_id)
        return info

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        await asyncio.to_thread(self._uploads.remove, upload.upload_id)

    async def close(self) -> None:
        return None

    async def list_multipart(self, prefix: str = "") -> AsyncIterator[OpenUpload]:
        directory = check_prefix(prefix)
        for upload, touched in await asyncio.to_thread(lambda: list(self._uploads.list())):
            if not directory or upload.key.startswith(f"{directory}/"):
                yield OpenUpload(upload, datetime.fromtimestamp(touched, UTC))

    async def sweep(self, older_than: timedelta) -> int:
        before = self._clock.now().timestamp() - older_than.total_seconds()
        return await asyncio.to_thread(self._files.sweep_temporary, before)

    async def open_reader(self, key: str) -> LocalReader:
        """An object opened for reading. Raises `NotFound`. Use as a context manager."""
        file = await asyncio.to_thread(self._files.open, check_local_key(key))
        if file is None:
            raise NotFound(f"There is no object {key!r}.")
        return LocalReader(key, file)

    def open_writer(self) -> LocalWriter:
        """A place for bytes that become visible when committed. Use as a context manager."""
        return LocalWriter(self._files, self._uploads)

    def verify(self, key: str, query: str) -> Grant:
        """What a URL of this store allows. Raises `Forbidden` when it is not ours or has expired."""
        grant, signature = Grant.read(self.config.id, key, query)
        grant.verify(signature, self._signing_key, now=self._clock.now().timestamp())
        return grant

    @property
    def _signing_key(self) -> bytes:
        return self.config.signing_key.get_secret_value().encode()

    def _end(self, expires: timedelta) -> int:
        return ceil(self._clock.now().timestamp()) + check_lifetime(expires)

    def _sign(self, grant: Grant, audience: Audience) -> str:
        worker_url = self.config.worker_url if audience == "worker" else None
        return grant.url(worker_url or self.config.public_url, self._signing_key)


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
