"""From a file to a store: one PUT, or parts of which only the missing ones are sent."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from yarl import URL

from slipway_kit.errors import Conflict, Forbidden, Invalid, Unavailable
from slipway_kit.transfer import TRANSFER_ERRORS, ClientSession
from slipway_storage.checksums import ALL_HASHES, READ_BYTES, HashName, hash_descriptor
from slipway_storage.store import MAX_PART_NUMBER, UploadedPart
from slipway_storage.transfer.retries import RefusedError, RetryPolicy, TryAgainError, check_status
from slipway_storage.transfer.tickets import MultipartTicket, PartUrl, PutTicket, UploadTicket

MoreParts = Callable[[Sequence[int]], Awaitable[Sequence[PartUrl]]]
"""Gives new URLs for the numbered parts."""

_PARTS_AT_ONCE = 4
_URLS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A finished upload. `etag` is of a single PUT; `parts` are what the completion of a multipart upload
    needs."""

    size: int
    digests: dict[HashName, str]
    etag: str = ""
    parts: tuple[UploadedPart, ...] = field(default=())


async def upload(
    session: ClientSession,
    source: Path | int,
    ticket: UploadTicket,
    *,
    hashes: Collection[HashName] = ALL_HASHES,
    renew: Callable[[], Awaitable[PutTicket]] | None = None,
    more_parts: MoreParts | None = None,
    policy: RetryPolicy | None = None,
) -> Uploaded:
    """Send a regular file: a path (not followed if it is a symbolic link) or an open descriptor, which stays
    open.

    Checksums are computed in a thread while bytes are sent. A multipart upload is completed by who made the
    ticket. Raises `Conflict` when the file changes meanwhile, `Forbidden` when a URL is refused and no new
    one can be had, `Unavailable` after all tries.
    """
    policy = policy or RetryPolicy()
    with _opened(source) as descriptor:
        before = os.fstat(descriptor)
        digest = asyncio.create_task(asyncio.to_thread(hash_descriptor, descriptor, hashes))
        try:
            if isinstance(ticket, PutTicket):
                etag = await _put(session, descriptor, before.st_size, ticket, renew, policy)
                parts: tuple[UploadedPart, ...] = ()
            else:
                etag = ""
                parts = await _PartSender(session, descriptor, before.st_size, ticket, more_parts, policy).run()
        finally:
            # The thread reads from the descriptor: wait for it before the descriptor may be closed.
            result = await asyncio.shield(digest)
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) != (
            before.st_size,
            before.st_mtime_ns,
        ) or result.size != after.st_size:
            raise Conflict("The file was changed while it was uploaded. Upload it again when it is complete.")
        return Uploaded(size=result.size, digests=result.digests(), etag=etag, parts=parts)


@contextmanager
def _opened(source: Path | int) -> Iterator[int]:
    if isinstance(source, int):
        yield source
        return
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _put(
    session: ClientSession,
    descriptor: int,
    size: int,
    ticket: PutTicket,
    renew: Callable[[], Awaitable[PutTicket]] | None,
    policy: RetryPolicy,
) -> str:
    failures = 0
    while True:
        try:
            return await _send(session, ticket.url, ticket.headers, descriptor, 0, size)
        except (TryAgainError, *TRANSFER_ERRORS) as error:
            failures += 1
            if isinstance(error, RefusedError) and renew is not None and failures < policy.tries:
                ticket = await renew()
            else:
                _give_up(error, failures, policy)
            await asyncio.sleep(policy.pause_seconds(failures))


class _PartSender:
    """Sends the parts that the store does not have, a few at once."""

    def __init__(
        self,
        session: ClientSession,
        descriptor: int,
        size: int,
        ticket: MultipartTicket,
        more_parts: MoreParts | None,
        policy: RetryPolicy,
    ) -> None:
        self._session = session
        self._descriptor = descriptor
        self._size = size
        self._part_bytes = ticket.part_bytes
        self._urls = {part.number: part for part in ticket.parts}
        self._done = {part.number: part for part in ticket.done}
        self._more_parts = more_parts
        self._policy = policy
        self._asking = asyncio.Lock()

    async def run(self) -> tuple[UploadedPart, ...]:
        """All parts, by number. An empty file is one empty part."""
        count = max(1, ceil(self._size / self._part_bytes))
        if count > MAX_PART_NUMBER:
            raise Invalid(f"{self._size} bytes in parts of {self._part_bytes} are more than {MAX_PART_NUMBER} parts.")
        missing = [number for number in range(1, count + 1) if not self._is_done(number)]
        waiting = iter(missing)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_PARTS_AT_ONCE, len(missing))):
                    group.create_task(self._work(waiting, missing))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return tuple(self._done[number] for number in range(1, count + 1))

    async def _work(self, waiting: Iterator[int], missing: Sequence[int]) -> None:
        for number in waiting:
            failures = 0
            while not self._is_done(number):
                part = await self._url(number, missing)
                start, length = self._span(number)
                try:
                    etag = await _send(self._session, part.url, part.headers, self._descriptor, start, length)
                    self._done[number] = UploadedPart(number=number, etag=etag, size=length)
                except (TryAgainError, *TRANSFER_ERRORS) as error:
                    failures += 1
                    if isinstance(error, RefusedError) and self._more_parts and failures < self._policy.tries:
                        self._urls.pop(number, None)
                    else:
                        _give_up(error, failures, self._policy)
                    await asyncio.sleep(self._policy.pause_seconds(failures))

    def _is_done(self, number: int) -> bool:
        done = self._done.get(number)
        return done is not None and done.size in (None, self._span(number)[1])

    def _span(self, number: int) -> tuple[int, int]:
        start = (number - 1) * self._part_bytes
        return start, min(self._part_bytes, self._size - start)

    async def _url(self, number: int, missing: Sequence[int]) -> PartUrl:
        async with self._asking:
            if number not in self._urls:
                if self._more_parts is None:
                    raise Invalid(f"The ticket has no URL for part {number}, and no more can be asked for.")
                ahead = [n for n in missing if n >= number and n not in self._urls][:_URLS_AT_ONCE]
                self._urls |= {part.number: part for part in await self._more_parts(ahead)}
            if number not in self._urls:
                raise Invalid(f"A URL for part {number} was asked for and not given.")
            return self._urls[number]


def _give_up(error: BaseException, failures: int, policy: RetryPolicy) -> None:
    """Raise when no other try makes sense."""
    if isinstance(error, RefusedError):
        raise Forbidden("The store refuses the signed URL; it may have expired. Ask for a new one.") from error
    if failures >= policy.tries:
        raise Unavailable(
            f"The upload failed {failures} times in a row: {str(error) or type(error).__name__}."
        ) from error


async def _send(
    session: ClientSession, url: str, headers: Mapping[str, str], descriptor: int, start: int, length: int
) -> str:
    """PUT a span of the file; the ETag of the answer, without quotes."""
    exact = {**headers, "Content-Length": str(length)}
    idle = session.timeout.sock_read
    loop = asyncio.get_running_loop()
    # The session limits the wait for the answer only: a peer that takes nothing any more must end the try as well.
    async with asyncio.timeout(idle) as silence:

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in _span_chunks(descriptor, start, length):
                yield chunk
                if idle is not None:
                    silence.reschedule(loop.time() + idle)

        body = chunks() if length else b""
        async with session.put(URL(url, encoded=True), data=body, headers=exact, allow_redirects=False) as response:
            await response.read()
            check_status(response.status, "such upload")
            return response.headers.get("ETag", "").strip('"')


async def _span_chunks(descriptor: int, start: int, length: int) -> AsyncIterator[bytes]:
    end = start + length
    while start < end:
        chunk = await asyncio.to_thread(os.pread, descriptor, min(READ_BYTES, end - start), start)
        if not chunk:
            raise Conflict("The file became shorter while it was uploaded. Upload it again when it is complete.")
        start += len(chunk)
        yield chunk
