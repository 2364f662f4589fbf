"""An ASGI app that passes requests on to an HTTP server, bytes as they come, in both directions."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from slipway_kit.errors import ErrorStyle, Problem, Unavailable
from slipway_kit.errors.handlers import v0_body
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
"""Headers that belong to one connection (RFC 9110 7.6.1); `Expect` is answered by our own server."""

_NOT_ANSWERED = _HOP_BY_HOP | {b"date", b"server"}
"""Our own server says these."""

_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_CHUNK_BYTES = 256 * 1024
_log = get_logger()


class HttpRelay:
    """Passes every request to `base_url` with its path, query, headers and body unchanged."""

    def __init__(
        self, base_url: str, *, name: str, style: ErrorStyle = ErrorStyle.V0, idle_seconds: float = 300
    ) -> None:
        self._style = style
        self._base_url = base_url.rstrip("/")
        self._name = name
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=idle_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request; answers 503 when the server does not take it."""
        if scope["type"] != "http":
            return
        body = _RequestBody(receive)
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name.lower() not in _HOP_BY_HOP
        ]
        client = scope.get("client")
        if client is not None:
            headers.append(("X-Forwarded-For", client[0]))
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        target = URL(self._base_url + (scope["raw_path"] + query).decode("latin-1"), encoded=True)
        passing = asyncio.create_task(self._pass(scope, target, headers, body, send))
        gone = asyncio.create_task(body.disconnected.wait())
        try:
            await asyncio.wait([passing, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(gone)
            if not passing.done():
                await cancel_and_wait(passing)
            await body.stop()
        if not passing.cancelled():
            passing.result()

    async def _pass(
        self, scope: Scope, target: URL, headers: list[tuple[str, str]], body: "_RequestBody", send: Send
    ) -> None:
        started = False
        try:
            async with self._open().request(
                scope["method"],
                target,
                headers=headers,
                data=body.chunks() if _has_body(scope) else None,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
                timeout=self._timeout,
            ) as answer:
                if not _has_body(scope):
                    body.watch()
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status,
                        "headers": [
                            (name, value) for name, value in answer.raw_headers if name.lower() not in _NOT_ANSWERED
                        ],
                    }
                )
                started = True
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if started:
                raise ConnectionError(f"{self._name} broke off its answer") from error
            _log.warning("origin_upstream_unavailable", upstream=self._name, error=type(error).__name__)
            await _answer_unavailable(send, self._name, self._style)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_CHUNK_BYTES,
            )
        return self._session


class _RequestBody:
    """The body of a request, and after it the news that the client is gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self.disconnected = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes; afterwards the client is watched."""
        more = True
        while more:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            if message.get("body"):
                yield message["body"]
            more = message.get("more_body", False)
        self.watch()

    def watch(self) -> None:
        """Set `disconnected` as soon as the client goes away."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()

    async def stop(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            await cancel_and_wait(self._watcher)


def _has_body(scope: Scope) -> bool:
    names = {name.lower(): value for name, value in scope["headers"]}
    return b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"


async def _answer_unavailable(send: Send, name: str, style: ErrorStyle) -> None:
    error = Unavailable(f"The service {name} does not answer right now; try again in a moment.")
    problem = style is ErrorStyle.PROBLEM
    body = Problem.of(error).model_dump_json(exclude_none=True).encode() if problem else to_json(v0_body(error))
    headers = [
        (b"content-type", b"application/problem+json" if problem else b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
