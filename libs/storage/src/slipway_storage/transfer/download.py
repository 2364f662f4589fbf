"""From a URL to a file: flat memory, checksums on the way, going on where a broken connection ended."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from yarl import URL

from slipway_kit.errors import Forbidden, Invalid, Unavailable
from slipway_kit.transfer import TRANSFER_ERRORS, ClientResponse, ClientSession
from slipway_storage.checksums import ALL_HASHES, BackgroundHash, HashName
from slipway_storage.transfer.retries import RefusedError, RetryPolicy, TryAgainError, check_status

_WRITE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download: its size in bytes, the checksums (hex) that were asked for, and the file name that
    the server proposed."""

    size: int
    digests: dict[HashName, str]
    filename: str | None = None


async def download(
    session: ClientSession,
    url: str,
    path: Path,
    *,
    expected_size: int | None = None,
    expected: dict[HashName, str] | None = None,
    hashes: Collection[HashName] = ALL_HASHES,
    renew: Callable[[], Awaitable[str]] | None = None,
    policy: RetryPolicy | None = None,
) -> Downloaded:
    """Download to `path`, which appears only when complete, synced and, where `expected` says so, verified.

    `renew` gives a new URL when the store refuses the old one. Raises `NotFound`, `Forbidden` (refused and
    no new URL), `Invalid` (wrong size or checksum), `Unavailable` (after all tries).
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    wanted = {*hashes, *(expected or {})}
    descriptor = await asyncio.to_thread(
        os.open, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        try:
            fetch = _Fetch(session, url, descriptor, expected_size, renew, policy or RetryPolicy())
            digests = await fetch.run(wanted)
            for name, value in (expected or {}).items():
                if digests[name] != value.lower():
                    raise Invalid(f"The downloaded bytes have {name} {digests[name]}, not {value} as expected.")
            await asyncio.to_thread(os.fsync, descriptor)
        finally:
            os.close(descriptor)
        await asyncio.to_thread(os.replace, temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return Downloaded(size=fetch.position, digests=digests, filename=fetch.filename)


class _Fetch:
    """One download and how far it has come."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        descriptor: int,
        expected_size: int | None,
        renew: Callable[[], Awaitable[str]] | None,
        policy: RetryPolicy,
    ) -> None:
        self._session = session
        self._url = url
        self._descriptor = descriptor
        self._expected_size = expected_size
        self._renew = renew
        self._policy = policy
        self._etag: str | None = None
        self.position = 0
        self.filename: str | None = None

    async def run(self, hashes: Collection[HashName]) -> dict[HashName, str]:
        while True:
            async with BackgroundHash(hashes) as digest:
                try:
                    await self._to_the_end(digest)
                except _ChangedError:
                    await asyncio.to_thread(os.ftruncate, self._descriptor, 0)
                    self.position, self._etag = 0, None
                    continue
                return await digest.digests()

    async def _to_the_end(self, digest: BackgroundHash) -> None:
        failures = 0
        while True:
            before = self.position
            try:
                await self._once(digest)
            except (TryAgainError, *TRANSFER_ERRORS) as error:
                failures = 1 if self.position > before else failures + 1
                await self._before_next_try(error, failures)
            else:
                return

    async def _before_next_try(self, error: BaseException, failures: int) -> None:
        if isinstance(error, RefusedError):
            if self._renew is None or failures >= self._policy.tries:
                raise Forbidden("The store refuses the signed URL; it may have expired. Ask for a new one.") from error
            self._url = await self._renew()
        if failures >= self._policy.tries:
            raise Unavailable(
                f"The download broke off {failures} times in a row at byte {self.position}: "
                f"{str(error) or type(error).__name__}."
            ) from error
        await asyncio.sleep(self._policy.pause_seconds(failures))

    async def _once(self, digest: BackgroundHash) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
            if self._etag is not None:
                headers["If-Range"] = self._etag
        async with self._session.get(URL(self._url, encoded=True), headers=headers) as response:
            if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.position:
                if self.position == self._expected_size:
                    return
                raise _ChangedError
            check_status(response.status, "such object")
            if self.position and response.status != HTTPStatus.PARTIAL_CONTENT:
                raise _ChangedError
            self._etag = _strong(response.headers.get("ETag"))
            if response.content_disposition is not None:
                self.filename = response.content_disposition.filename
            await self._receive(response, digest)
        if self._expected_size is not None and self.position != self._expected_size:
            raise Invalid(f"The object has {self.position} bytes, not {self._expected_size} as expected.")

    async def _receive(self, response: ClientResponse, digest: BackgroundHash) -> None:
        buffer = bytearray()
        try:
            async for chunk in response.content.iter_any():
                buffer += chunk
                if len(buffer) >= _WRITE_BYTES:
                    full, buffer = bytes(buffer), bytearray()
                    await self._keep(full, digest)
        finally:
            # What came before a connection broke is kept, and the next try goes on after it.
            if buffer:
                await self._keep(bytes(buffer), digest)

    async def _keep(self, data: bytes, digest: BackgroundHash) -> None:
        if self._expected_size is not None and self.position + len(data) > self._expected_size:
            raise Invalid(f"The object has more than the {self._expected_size} bytes expected.")
        await asyncio.to_thread(_write_at, self._descriptor, data, self.position)
        self.position += len(data)
        await digest.update(data)


class _ChangedError(Exception):
    """The object is another one now, or the store serves no ranges: begin again."""


def _strong(etag: str | None) -> str | None:
    return None if etag is None or etag.startswith("W/") else etag


def _write_at(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
