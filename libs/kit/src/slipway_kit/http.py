"""HTTP clients: the one import of httpx and aiohttp in the tree."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

import aiohttp
import httpx
import stamina
import structlog
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from slipway_kit.auth import ACTOR_HEADER
from slipway_kit.errors import SlipwayError, Unavailable, error_from_problem
from slipway_kit.middleware import REQUEST_ID_HEADER
from slipway_kit.unit_of_work import transaction_open

M = TypeVar("M", bound=BaseModel)
Body = BaseModel | Mapping[str, Any]
Params = Mapping[str, str | int | Sequence[str]]

_CONNECT_TIMEOUT = 2.0
_RETRY_SECONDS = 2.0
_IDLE_CONNECTION_SECONDS = 20.0


class _NotSent(Exception):
    """The connection could not be made, so the request was not sent and may be tried again."""


class TokenSource(Protocol):
    """Gives the token of a call; `auth.ServiceSigner` is one, `FixedToken` another."""

    def token(self, audience: str, scope: str = ...) -> str:
        """The token to send to `audience`."""
        ...


@dataclass(frozen=True)
class FixedToken:
    """A token that was given to this process, such as a worker's or an attempt's."""

    value: str = field(repr=False)

    def token(self, audience: str, scope: str = "") -> str:
        """The token, whoever is called."""
        return self.value


@dataclass(frozen=True)
class StreamedAnswer:
    """An answer whose bytes are passed through as they come."""

    status: int
    headers: Mapping[str, str]
    content: AsyncIterator[bytes]


class Neighbour:
    """Calls the internal API of another service, with a signed token, over kept connections.

    Problem documents come back as the errors that the neighbour raised; a neighbour that cannot be reached,
    or does not answer in time, is `Unavailable`. A refused connection is tried again for 2 s, with any
    method, for nothing was sent. Timeouts are in seconds, for the whole call.
    """

    def __init__(self, base_url: str, signer: TokenSource, audience: str, scope: str = "internal") -> None:
        self._base_url = base_url.rstrip("/")
        self._signer = signer
        self._audience = audience
        self._scope = scope
        self._session: aiohttp.ClientSession | None = None

    @property
    def audience(self) -> str:
        """The service that is called."""
        return self._audience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the kept connections; a later call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @overload
    async def get(
        self,
        path: str,
        *,
        result: type[M],
        params: Params | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M: ...

    @overload
    async def get(
        self,
        path: str,
        *,
        result: None = None,
        params: Params | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def get(
        self,
        path: str,
        *,
        result: type[M] | None = None,
        params: Params | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M | None:
        """GET `path` below the base URL and read the answer as `result`."""
        answer = await self._call("GET", path, None, params, actor, timeout)
        return self._read(answer, result, path)

    @overload
    async def post(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M],
        actor: int | None = None,
        timeout: float = 10,
    ) -> M: ...

    @overload
    async def post(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def post(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M] | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M | None:
        """POST `body` as JSON to `path` below the base URL and read the answer as `result`."""
        answer = await self._call("POST", path, body, None, actor, timeout)
        return self._read(answer, result, path)

    @overload
    async def put(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M],
        actor: int | None = None,
        timeout: float = 10,
    ) -> M: ...

    @overload
    async def put(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def put(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M] | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M | None:
        """PUT `body` as JSON to `path` below the base URL and read the answer as `result`."""
        answer = await self._call("PUT", path, body, None, actor, timeout)
        return self._read(answer, result, path)

    @overload
    async def patch(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M],
        actor: int | None = None,
        timeout: float = 10,
    ) -> M: ...

    @overload
    async def patch(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def patch(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M] | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M | None:
        """PATCH `body` as JSON to `path` below the base URL and read the answer as `result`."""
        answer = await self._call("PATCH", path, body, None, actor, timeout)
        return self._read(answer, result, path)

    @overload
    async def delete(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M],
        actor: int | None = None,
        timeout: float = 10,
    ) -> M: ...

    @overload
    async def delete(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> None: ...

    async def delete(
        self,
        path: str,
        *,
        body: Body | None = None,
        result: type[M] | None = None,
        actor: int | None = None,
        timeout: float = 10,
    ) -> M | None:
        """DELETE `body` as JSON to `path` below the base URL and read the answer as `result`."""
        answer = await self._call("DELETE", path, body, None, actor, timeout)
        return self._read(answer, result, path)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        actor: int | None = None,
        timeout: float | None = None,
        idle_timeout: float = 60,
    ) -> AsyncIterator[StreamedAnswer]:
        """Pass bytes through. `idle_timeout` limits the wait for the next bytes, `timeout` the whole call.

        Error answers raise before anything is passed; a stream that breaks off raises `Unavailable`.
        """
        refuse_in_transaction(path)
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_TIMEOUT, sock_read=idle_timeout)
        sent = self._headers(actor) | dict(headers or {})
        try:
            async with self._open().request(
                method, self._base_url + path, params=params, headers=sent, data=content, timeout=limits
            ) as answer:
                if answer.status >= 400:
                    raise error_from_problem(answer.status, await answer.read(), source=self._named(path))
                yield StreamedAnswer(answer.status, dict(answer.headers), answer.content.iter_any())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(path, error) from error

    async def _call(
        self,
        method: str,
        path: str,
        body: Body | None,
        params: Params | None,
        actor: int | None,
        timeout: float,
    ) -> bytes:
        refuse_in_transaction(path)
        headers = self._headers(actor)
        data: bytes | None = None
        if body is not None:
            data = body.model_dump_json().encode() if isinstance(body, BaseModel) else to_json(body)
            headers["Content-Type"] = "application/json"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
        try:
            async with asyncio.timeout(timeout):
                async for attempt in stamina.retry_context(
                    on=_NotSent,
                    attempts=None,
                    timeout=_RETRY_SECONDS,
                    wait_initial=0.05,
                    wait_max=0.5,
                    wait_jitter=0.05,
                ):
                    with attempt:
                        return await self._send(method, path, params, data, headers, limits)
        except (_NotSent, aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(path, error) from error
        raise AssertionError("a retry context ends by a return or an error")

    async def _send(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
    ) -> bytes:
        try:
            async with self._open().request(
                method, self._base_url + path, params=params, headers=headers, data=data, timeout=limits
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientConnectorError as error:
            raise _NotSent(str(error)) from error
        if answer.status >= 400:
            raise error_from_problem(answer.status, content, source=self._named(path))
        return content

    def _read(self, content: bytes, result: type[M] | None, path: str) -> M | None:
        if result is None:
            return None
        try:
            return result.model_validate_json(content)
        except ValidationError as error:
            raise SlipwayError(
                f"{self._named(path)} gave an answer that is not a {result.__name__}; "
                "the two services are probably of different versions.",
                code="neighbour_answer_unreadable",
            ) from error

    def _headers(self, actor: int | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._signer.token(self._audience, self._scope)}"}
        if actor is not None:
            headers[ACTOR_HEADER] = str(actor)
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        if request_id:
            headers[REQUEST_ID_HEADER] = str(request_id)
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=_IDLE_CONNECTION_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            )
        return self._session

    def _named(self, path: str) -> str:
        return f"The service {self._audience} ({self._base_url}{path})"

    def _unreachable(self, path: str, error: Exception) -> Unavailable:
        reason = "it did not answer in time" if isinstance(error, TimeoutError) else str(error)
        return Unavailable(f"{self._named(path)} cannot be reached: {reason or type(error).__name__}.")


OutsideError = httpx.HTTPError
"""What the calls of an `outside_client` raise when there is no whole answer."""


def outside_client(
    *,
    base_url: str = "",
    timeout: float = 10,
    headers: Mapping[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    use_proxies: bool = True,
) -> httpx.AsyncClient:
    """Make a client for APIs outside the platform; `timeout` in seconds. Follows no redirects.

    Without `use_proxies` the proxy variables of the environment are not followed.
    """

    async def refuse(request: httpx.Request) -> None:
        refuse_in_transaction(str(request.url.path))

    return httpx.AsyncClient(
        base_url=base_url,
        timeout=timeout,
        headers=dict(headers or {}),
        transport=transport,
        trust_env=use_proxies,
        event_hooks={"request": [refuse]},
    )


def refuse_in_transaction(path: str) -> None:
    """Raise RuntimeError while a database transaction is open; for clients that libraries bring with them."""
    if transaction_open.get():
        raise RuntimeError(
            f"A network call to {path} was made while a database transaction is open. "
            "End the transaction first, or hand the call to a loop."
        )
