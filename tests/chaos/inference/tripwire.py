"""Proxies in front of what a builder talks to, which strike it at a chosen call: before it, within it, or after it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from slipway_kit.servers import make_server

BEFORE, WITHIN, AFTER = "before", "within", "after"
_DROPPED = {b"connection", b"transfer-encoding", b"content-length", b"keep-alive"}

Strike = Callable[[], Awaitable[None]]


async def _spare() -> None:
    """Strikes nobody: there is no builder yet."""


@dataclass
class Tripwire:
    """Strikes once, at the `count`-th call whose name has all of the words."""

    strike: Strike = field(default=_spare)
    kills: bool = True
    """A call before which its sender is killed goes nowhere; that of one which is only stopped is under way already."""
    words: tuple[str, ...] = ()
    moment: str = BEFORE
    count: int = 0
    fired: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[str] = field(default_factory=list)

    def arm(self, moment: str, *words: str, count: int = 1) -> None:
        """Wait for a call."""
        self.words, self.moment, self.count, self.fired = words, moment, count, asyncio.Event()

    def disarm(self) -> None:
        """Strike no more."""
        self.count = 0

    async def at(self, moment: str, call: str) -> bool:
        """Something happens; tells whether it was struck at."""
        if moment == BEFORE:
            self.calls.append(call)
        if self.count == 0 or moment != self.moment or not all(word in call for word in self.words):
            return False
        self.count -= 1
        if self.count:
            return False
        await self.strike()
        self.fired.set()
        return True


class Proxy:
    """Passes calls on to an upstream, bodies of requests as a whole and answers as they come."""

    def __init__(self, name: str, upstream: httpx.AsyncClient, wire: Tripwire) -> None:
        self._name = name
        self._upstream = upstream
        self._wire = wire

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        call = f"{self._name} {scope['method']} {path}"
        if await self._wire.at(BEFORE, call) and self._wire.kills:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _DROPPED]
        request = self._upstream.build_request(scope["method"], path, headers=headers, content=body)
        if not body and scope["method"] not in ("POST", "PUT", "PATCH"):
            request.headers.pop("content-length", None)
        answer = await self._upstream.send(request, stream=True)
        try:
            await self._pass(answer, call, send, head=scope["method"] == "HEAD")
        finally:
            await answer.aclose()

    async def _pass(self, answer: httpx.Response, call: str, send: Any, *, head: bool) -> None:
        length = [(name, value) for name, value in answer.headers.raw if name.lower() == b"content-length"]
        kept = [(name, value) for name, value in answer.headers.raw if name.lower() not in _DROPPED]
        pieces = [] if length and not head else None
        if pieces is not None:  # it has an end: it is struck at when the upstream has done all of it
            async for piece in answer.aiter_raw():
                pieces.append(piece)
        await self._wire.at(AFTER, call)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": [*kept, *length]})
        if pieces is None:
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        else:
            whole = b"".join(pieces)
            half = len(whole) // 2
            await send({"type": "http.response.body", "body": whole[:half], "more_body": True})
            await self._wire.at(WITHIN, call)
            await send({"type": "http.response.body", "body": whole[half:], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def proxied_socket(path: Path, upstream: Path, name: str, wire: Tripwire) -> AsyncIterator[Path]:
    """A Unix socket in front of another one."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    listener.setblocking(False)
    transport = httpx.AsyncHTTPTransport(uds=str(upstream))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None) as client:
        server = make_server(Proxy(name, client, wire), 1)
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield path
        finally:
            server.stop()
            server.force_exit = True
            await task
