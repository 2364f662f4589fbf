"""One registry: manifests, blobs, uploads, by the OCI distribution specification."""

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from yarl import URL

from slipway_builder.images.protocol import RegistryAccess
from slipway_builder.images.registry.auth import Authenticator, Scopes, pull, push
from slipway_builder.images.registry.errors import (
    ImageMissing,
    RegistryRefused,
    RegistryUnreachable,
    answer_error,
)
from slipway_builder.images.registry.manifests import ACCEPTED, Manifest, digest_of
from slipway_builder.images.registry.references import api_host
from slipway_kit.egress import EgressRules
from slipway_kit.tasks import run_blocking
from slipway_kit.transfer import (
    NOT_TRUSTED_ERRORS,
    TRANSFER_ERRORS,
    ClientResponse,
    ClientSession,
    transfer_session,
    trusting,
)

MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
_CALL_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 60.0
_FINISH_SECONDS: Final = 600.0
"""A registry may hash or move a large blob before it answers."""
_ABORT_SECONDS: Final = 5.0
_TRIES: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.2
_LATER: Final = frozenset({429, 500, 502, 503, 504})
_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the registry."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RegistryClient:
    """Calls one registry over kept connections.

    Raises `ImageMissing`, `ImageDenied`, `RegistryRefused` (all `BuildError`), `RegistryUnreachable` (`Unavailable`),
    and `EgressRefused` where `egress` does not allow its address. What may be sent twice is tried three times.
    """

    def __init__(self, access: RegistryAccess, *, egress: EgressRules | None = None) -> None:
        """`egress`: rules for a registry that a user has named; None for the operator's own."""
        self.access = access
        self._egress = egress
        self._base = URL(f"{'http' if access.plain_http else 'https'}://{api_host(access.host)}")
        self._authenticator = Authenticator(access)
        self._session: ClientSession | None = None
        self._opening = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def manifest(self, repository: str, reference: str) -> Manifest:
        """The manifest or index under a tag or a digest."""
        answer = await self._call("GET", f"{repository}/manifests/{reference}", {pull(repository)}, reference=reference)
        digest = digest_of(answer.body)
        if reference.startswith("sha256:") and digest != reference:
            raise RegistryUnreachable(f"The registry {self.access.host} gave other bytes for {reference}.")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Manifest(media_type, digest, answer.body)

    async def find_manifest(self, repository: str, reference: str) -> str | None:
        """The digest of what lies under a tag or a digest, or None. One `HEAD`."""
        try:
            answer = await self._call("HEAD", f"{repository}/manifests/{reference}", {pull(repository)})
        except ImageMissing:
            return None
        return answer.headers.get("Docker-Content-Digest") or (await self.manifest(repository, reference)).digest

    async def put_manifest(self, repository: str, reference: str, raw: bytes, media_type: str) -> str:
        """Store a manifest under a tag or its digest; its digest. Raises `BlobUnknown` for a layer that is missing."""
        path = f"{repository}/manifests/{reference}"
        await self._call("PUT", path, {push(repository)}, data=raw, headers={"Content-Type": media_type})
        return digest_of(raw)

    async def put_referrer(self, repository: str, digest: str, raw: bytes, media_type: str) -> bool:
        """Store a manifest that names a subject; whether the registry itself lists what refers to a subject."""
        path = f"{repository}/manifests/{digest}"
        answer = await self._call("PUT", path, {push(repository)}, data=raw, headers={"Content-Type": media_type})
        return "OCI-Subject" in answer.headers

    async def delete_manifest(self, repository: str, digest: str) -> bool:
        """Delete a manifest with all its tags; False when there is none."""
        scope = f"repository:{repository}:delete,pull"
        try:
            await self._call("DELETE", f"{repository}/manifests/{digest}", {scope})
        except ImageMissing:
            return False
        return True

    async def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository has a blob."""
        try:
            await self._call("HEAD", f"{repository}/blobs/{digest}", {pull(repository)})
        except ImageMissing:
            return False
        return True

    async def blob(self, repository: str, digest: str) -> bytes:
        """A small blob, such as an image's configuration."""
        answer = await self._call("GET", f"{repository}/blobs/{digest}", {pull(repository)})
        if digest_of(answer.body) != digest:
            raise RegistryUnreachable(f"The registry {self.access.host} gave other bytes for {digest}.")
        return answer.body

    async def stream_blob(self, repository: str, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob as they come; the receiver checks them."""
        path = f"{repository}/blobs/{digest}"
        async with self._unreachable(), self._request("GET", self._url(path), {pull(repository)}) as answer:
            if answer.status != 200:
                raise self._error(answer.status, await answer.content.read(MAX_DOCUMENT_BYTES), path)
            async for chunk in answer.content.iter_chunked(_READ_BYTES):
                yield chunk

    async def mount(self, repository: str, digest: str, source: str) -> URL | None:
        """Take a blob over from another repository of this registry.

        None when that was done; else the registry opened an upload instead, and the blob must be sent there.
        """
        path = f"{repository}/blobs/uploads/?mount={digest}&from={source}"
        answer = await self._call("POST", path, {push(repository), pull(source)}, data=b"")
        return None if answer.status == 201 else self._location(answer)

    async def upload(self, repository: str, digest: str, data: bytes) -> None:
        """Send a small blob."""
        where = await self._start(repository)
        headers = {"Content-Type": "application/octet-stream"}
        await self._call("PUT", where.update_query(digest=digest), {push(repository)}, data=data, headers=headers)

    async def upload_stream(
        self, repository: str, chunks: AsyncIterable[bytes], digest: Callable[[], str], *, where: URL | None = None
    ) -> None:
        """Send a blob of any size as it is made. `digest` is asked when all chunks were read.

        `where`: an upload that `mount` opened. An upload that fails or is cancelled is taken back, where the registry
        takes that in the middle of one; others purge it with time.
        """
        where = where or await self._start(repository)
        scopes = frozenset({push(repository)})
        source_errors: list[Exception] = []
        try:
            async with self._unreachable(), asyncio.timeout(_SILENCE_SECONDS) as silence:
                headers = {"Content-Type": "application/octet-stream"}
                body = _watched(chunks, silence, source_errors)
                async with self._request("PATCH", where, scopes, data=body, headers=headers) as answer:
                    found = Answer(answer.status, answer.headers, await answer.content.read(MAX_DOCUMENT_BYTES))
            if found.status not in (202, 204):
                raise self._error(found.status, found.body, repository)
            where = self._location(found)
            await self._call(
                "PUT", where.update_query(digest=digest()), scopes, data=b"", timeout=_FINISH_SECONDS, once=True
            )
        except BaseException:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self._call("DELETE", where, scopes, once=True)
            if source_errors:
                raise source_errors[0] from None
            raise

    async def tags(self, repository: str) -> list[str]:
        """All tags of a repository; none when there is no such repository."""
        try:
            return [one async for one in self._listed(f"{repository}/tags/list", "tags", {pull(repository)})]
        except ImageMissing:
            return []

    async def repositories(self) -> list[str]:
        """All repositories. Not every registry tells."""
        return [one async for one in self._listed("_catalog", "repositories", {"registry:catalog:*"})]

    async def _listed(self, path: str, key: str, scopes: set[str]) -> AsyncIterator[str]:
        where: str | URL | None = f"{path}?n=100"
        while where is not None:
            answer = await self._call("GET", where, scopes)
            document = Manifest("", "", answer.body).document
            for one in document.get(key) or ():
                yield str(one)
            link = answer.headers.get("Link", "")
            target = link.partition("<")[2].partition(">")[0]
            where = self._base.join(URL(target, encoded=True)) if target and 'rel="next"' in link else None

    async def _start(self, repository: str) -> URL:
        return self._location(await self._call("POST", f"{repository}/blobs/uploads/", {push(repository)}, data=b""))

    def _location(self, answer: Answer) -> URL:
        location = answer.headers.get("Location")
        if not location:
            raise RegistryRefused(f"The registry {self.access.host} opened an upload without saying where.")
        return self._base.join(URL(location, encoded=True))

    def _url(self, path: str) -> URL:
        return URL(f"{self._base}/v2/{path}", encoded=True)

    async def _call(
        self,
        method: str,
        path: str | URL,
        scopes: set[str] | Scopes,
        *,
        reference: str = "",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = _CALL_SECONDS,
        once: bool = False,
    ) -> Answer:
        url = path if isinstance(path, URL) else self._url(path)
        tries = 1 if once else _TRIES
        for left in reversed(range(tries)):
            try:
                found = await self._send(method, url, frozenset(scopes), data, headers, timeout)
            except RegistryUnreachable:
                if not left:
                    raise
            else:
                if found.status < 400:
                    return found
                if not left or found.status not in _LATER:
                    raise self._error(found.status, found.body, _named(url, reference))
            await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1 - left))
        raise AssertionError("a try ends by a return, an error or another try")

    async def _send(
        self,
        method: str,
        url: URL,
        scopes: Scopes,
        data: bytes | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> Answer:
        async with self._unreachable(), asyncio.timeout(timeout):
            async with self._request(method, url, scopes, data=data, headers=headers) as answer:
                body = await answer.content.read(MAX_DOCUMENT_BYTES + 1) if method != "HEAD" else b""
                while body and len(body) <= MAX_DOCUMENT_BYTES and (more := await answer.content.read(_READ_BYTES)):
                    body += more
            if len(body) > MAX_DOCUMENT_BYTES:
                raise RegistryRefused(f"{url} of the registry {self.access.host} has more than 8 MiB.")
            return Answer(answer.status, answer.headers, body)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: URL,
        scopes: set[str] | Scopes,
        *,
        data: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ClientResponse]:
        """One request, and a second one when the registry first says how it wants to be asked."""
        session = await self._open()
        wanted = frozenset(scopes)
        sent = {"Accept": ACCEPTED, **(headers or {})}
        for last in (False, True):
            ours = url.host == self._base.host and url.port == self._base.port
            login = await self._authenticator.headers(session, wanted) if ours else {}
            # From a buffer the body is sent piece by piece; a large `bytes` would hold up the loop.
            body = io.BytesIO(data) if isinstance(data, bytes) and data else data
            async with session.request(method, url, data=body, headers={**sent, **login}) as answer:
                refused = answer.headers.getall("WWW-Authenticate", [])
                again = answer.status == 401 and not last and (data is None or isinstance(data, bytes))
                if not again or not self._authenticator.challenged(refused, login, wanted):
                    yield answer
                    return

    async def _open(self) -> ClientSession:
        async with self._opening:
            if self._session is None or self._session.closed:
                trust: ssl.SSLContext | None = None
                if self.access.ca_file is not None:
                    try:
                        trust = await run_blocking(trusting, self.access.ca_file)
                    except (OSError, ssl.SSLError) as error:
                        raise RegistryUnreachable(
                            f"The certificates in {self.access.ca_file} for the registry {self.access.host} cannot be "
                            f"read: {error}."
                        ) from error
                self._session = transfer_session(idle_seconds=_SILENCE_SECONDS, egress=self._egress, trust=trust)
            return self._session

    @asynccontextmanager
    async def _unreachable(self) -> AsyncIterator[None]:
        host = self.access.host
        try:
            yield
        except NOT_TRUSTED_ERRORS as error:
            raise RegistryUnreachable(
                f"The certificate of the registry {host} is not trusted: give its CA file to the target's registry, or "
                f"to the registry's login. ({error})",
                code="registry_not_trusted",
            ) from error
        except TimeoutError as error:
            raise RegistryUnreachable(f"The registry {host} did not answer in time.") from error
        except TRANSFER_ERRORS as error:
            reason = str(error) or type(error).__name__
            raise RegistryUnreachable(f"The registry {host} cannot be reached: {reason}.") from error

    def _error(self, status: int, body: bytes, what: str) -> Exception:
        return answer_error(status, body, what, host=self.access.host, login=self.access.username)


async def _watched(
    chunks: AsyncIterable[bytes], silence: asyncio.Timeout, errors: list[Exception]
) -> AsyncIterator[bytes]:
    """Passes chunks on; when nothing moves for too long, `silence` ends the upload.

    An error of the source is kept in `errors`: the HTTP client would report it as a broken connection.
    """
    clock = asyncio.get_running_loop().time
    try:
        async for chunk in chunks:
            silence.reschedule(clock() + _SILENCE_SECONDS)
            yield chunk
    except Exception as error:
        errors.append(error)
        raise
    silence.reschedule(clock() + _FINISH_SECONDS)


def _named(url: URL, reference: str) -> str:
    """The image that a URL of the protocol is about."""
    path = url.path.removeprefix("/v2/")
    for part in ("/manifests/", "/blobs/", "/tags/"):
        repository, found, rest = path.partition(part)
        if found:
            wanted = reference or rest.partition("/")[0]
            separator = "@" if wanted.startswith("sha256:") else ":"
            return f"{url.authority}/{repository}" + (f"{separator}{wanted}" if part == "/manifests/" else "")
    return f"{url.authority}/{path}"
