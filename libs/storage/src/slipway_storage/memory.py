"""Objects in this process, for tests. It signs nothing: where signed URLs are part of the test, use a
local store."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import NotFound, Unavailable
from slipway_storage.keys import check_key, check_prefix
from slipway_storage.store import Audience, MultipartUpload, ObjectInfo, OpenUpload, SignedPut, UploadedPart


class MemoryStore:
    """A dictionary of objects behind the `ObjectStore` protocol, without signed URLs and uploads in parts."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}

    async def put(
        self, key: str, data: bytes | AsyncIterable[bytes] | Path, *, content_type: str | None = None
    ) -> ObjectInfo:
        check_key(key)
        if isinstance(data, Path):
            body = data.read_bytes()
        elif isinstance(data, bytes):
            body = data
        else:
            body = b"".join([chunk async for chunk in data])
        etag = hashlib.sha256(body).hexdigest()
        info = ObjectInfo(key=key, size=len(body), etag=etag, modified_at=self._clock.now())
        self._objects[key] = (info, body)
        return info

    async def get(self, key: str) -> bytes:
        found = self._objects.get(check_key(key))
        if found is None:
            raise NotFound(f"There is no object {key!r}.")
        return found[1]

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        chunk = (await self.get(key))[start:end]
        if chunk:
            yield chunk

    async def head(self, key: str) -> ObjectInfo | None:
        found = self._objects.get(check_key(key))
        return None if found is None else found[0]

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        directory = check_prefix(prefix)
        for key, (info, _) in list(self._objects.items()):
            if not directory or key.startswith(f"{directory}/"):
                yield info

    async def delete(self, key: str) -> None:
        self._objects.pop(check_key(key), None)

    async def sign_get(
        self, key: str, *, expires: timedelta, filename: str | None = None, audience: Audience = "public"
    ) -> str:
        self._refuse()

    async def sign_put(
        self, key: str, *, expires: timedelta, size: int | None = None, audience: Audience = "public"
    ) -> SignedPut:
        self._refuse()

    async def create_multipart(self, key: str, *, content_type: str | None = None) -> MultipartUpload:
        self._refuse()

    async def sign_part(
        self,
        upload: MultipartUpload,
        number: int,
        *,
        expires: timedelta,
        size: int | None = None,
        audience: Audience = "public",
    ) -> SignedPut:
        self._refuse()

    async def list_parts(self, upload: MultipartUpload) -> Sequence[UploadedPart]:
        self._refuse()

    async def complete_multipart(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> ObjectInfo:
        self._refuse()

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        self._refuse()

    async def list_multipart(self, prefix: str = "") -> AsyncIterator[OpenUpload]:
        nothing: tuple[OpenUpload, ...] = ()
        for one in nothing:
            yield one

    async def sweep(self, older_than: timedelta) -> int:
        return 0

    async def close(self) -> None:
        return None

    def _refuse(self) -> NoReturn:
        raise Unavailable("The memory store signs no URLs. Use a store of type local or s3.")
