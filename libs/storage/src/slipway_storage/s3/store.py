"""The S3 store: obstore (Rust) moves the bytes, `S3Signer` signs, `S3Uploads` frames uploads in parts."""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store as ObstoreS3

from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import NotFound, Unavailable
from slipway_storage.config import S3StoreConfig
from slipway_storage.keys import check_key, check_prefix
from slipway_storage.s3.signer import S3Signer, attachment
from slipway_storage.s3.uploads import S3Uploads
from slipway_storage.store import (
    Audience,
    MultipartUpload,
    ObjectInfo,
    OpenUpload,
    SignedPut,
    UploadedPart,
    check_filename,
    check_part_number,
)

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta  # types that exist in its stubs only

CHUNK_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024


class S3Store:
    """A bucket, or a directory of it, behind the `ObjectStore` protocol."""

    def __init__(self, config: S3StoreConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self._signer = S3Signer(config, clock or SystemClock())
        self._uploads = S3Uploads(self._signer)
        self._bucket = _open_bucket(config)

    async def put(
        self, key: str, data: bytes | AsyncIterable[bytes] | Path, *, content_type: str | None = None
    ) -> ObjectInfo:
        check_key(key)
        with _errors(key):
            await obstore.put_async(
                self._bucket,
                key,
                data,
                attributes=None if content_type is None else {"Content-Type": content_type},
                chunk_size=_PART_BYTES,
            )
        return await self._info(key)

    async def get(self, key: str) -> bytes:
        with _errors(check_key(key)):
            result = await obstore.get_async(self._bucket, key)
            return bytes(await result.bytes_async())

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        check_key(key)
        if start > 0 or end is not None:
            # S3 answers an empty range with an error; asking for the size first makes it nothing instead.
            size = (await self._info(key)).size
            end = size if end is None else min(end, size)
            if start >= end:
                return
        with _errors(key):
            options: GetOptions = {} if end is None else {"range": (start, end)}
            result = await obstore.get_async(self._bucket, key, options=options)
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def head(self, key: str) -> ObjectInfo | None:
        try:
            return await self._info(check_key(key))
        except NotFound:
            return None

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        directory = check_prefix(prefix)
        with _errors(directory):
            async for batch in obstore.list(self._bucket, directory or None):
                for meta in batch:
                    yield _to_info(meta)

    async def delete(self, key: str) -> None:
        try:
            with _errors(check_key(key)):
                await obstore.delete_async(self._bucket, key)
        except NotFound:
            return

    async def sign_get(
        self, key: str, *, expires: timedelta, filename: str | None = None, audience: Audience = "public"
    ) -> str:
        check_key(key)
        name = key.rpartition("/")[2] if filename is None else check_filename(filename)
        query = {"response-content-disposition": attachment(name)}
        return self._signer.sign("GET", key, expires=expires, endpoint=audience, query=query)

    async def sign_put(
        self, key: str, *, expires: timedelta, size: int | None = None, audience: Audience = "public"
    ) -> SignedPut:
        headers = _size_header(size)
        url = self._signer.sign("PUT", check_key(key), expires=expires, endpoint=audience, headers=headers)
        return SignedPut(url=url, headers=headers)

    async def create_multipart(self, key: str, *, content_type: str | None = None) -> MultipartUpload:
        return await self._uploads.create(check_key(key), content_type)

    async def sign_part(
        self,
        upload: MultipartUpload,
        number: int,
        *,
        expires: timedelta,
        size: int | None = None,
        audience: Audience = "public",
    ) -> SignedPut:
        headers = _size_header(size)
        query = {"partNumber": str(check_part_number(number)), "uploadId": upload.upload_id}
        url = self._signer.sign(
            "PUT", check_key(upload.key), expires=expires, endpoint=audience, query=query, headers=headers
        )
        return SignedPut(url=url, headers=headers)

    async def list_parts(self, upload: MultipartUpload) -> Sequence[UploadedPart]:
        return await self._uploads.parts(upload)

    async def complete_multipart(self, upload: MultipartUpload, parts: Sequence[UploadedPart]) -> ObjectInfo:
        await self._uploads.complete(upload, parts)
        return await self._info(upload.key)

    async def abort_multipart(self, upload: MultipartUpload) -> None:
        await self._uploads.abort(upload)

    async def list_multipart(self, prefix: str = "") -> AsyncIterator[OpenUpload]:
        async for upload in self._uploads.list(check_prefix(prefix)):
            yield upload

    async def sweep(self, older_than: timedelta) -> int:
        return 0

    async def close(self) -> None:
        await self._uploads.close()

    async def _info(self, key: str) -> ObjectInfo:
        with _errors(key):
            return _to_info(await obstore.head_async(self._bucket, key))


def _open_bucket(config: S3StoreConfig) -> ObstoreS3:
    token = config.session_token
    return ObstoreS3(
        config.bucket,
        prefix=config.prefix or None,
        config={
            "access_key_id": config.access_key_id.get_secret_value(),
            "secret_access_key": config.secret_access_key.get_secret_value(),
            "region": config.region,
            "virtual_hosted_style_request": False,
            **({} if config.endpoint_url is None else {"endpoint": config.endpoint_url}),
            **({} if token is None else {"session_token": token.get_secret_value()}),
        },
        client_options={
            "allow_http": (config.endpoint_url or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(minutes=5),
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
    )


def _to_info(meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(
        key=meta["path"],
        size=meta["size"],
        etag=(meta["e_tag"] or "").strip('"'),
        modified_at=meta["last_modified"],
    )


def _size_header(size: int | None) -> dict[str, str]:
    """Content-Length as a signed header: the store then refuses any other length."""
    return {} if size is None else {"Content-Length": str(size)}


@contextmanager
def _errors(key: str) -> Iterator[None]:
    """Errors of obstore as ours; its texts name the request, never a secret."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise NotFound(f"There is no object {key!r}.") from None
    except BaseError as error:
        raise Unavailable(
            "The object store did not do what was asked. Check its endpoint, bucket and credentials. "
            f"It said: {str(error).splitlines()[0][:300]}"
        ) from error
