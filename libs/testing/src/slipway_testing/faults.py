"""An HTTP proxy that breaks delivery: it drops, cuts, doubles, delays and reorders what passes it.

One request per connection, so that a fault hits one request only. It can also be away altogether.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from slipway_testing.listening import StreamServer

_KEPT_BYTES = 32 * 1024 * 1024
"""Bodies up to this size are held in memory, so that they can be sent twice; larger ones are passed on."""
_PIECE_BYTES = 64 * 1024
_UPSTREAM_SECONDS = 120.0
_LONGEST_DELAY = 3.0


class Fault(StrEnum):
    """What can happen to a request."""

    DROP = "dropped before it arrived"
    CUT_ANSWER = "processed, but the answer was cut"
    TWICE = "sent twice at once"
    DELAY = "delayed"
    LATE_COPY = "sent again later, behind newer ones"
    BREAK_BODY = "broken off in its body"


class Away(StrEnum):
    """How a server can be away."""

    REFUSED = "connections are closed at once"
    SILENT = "connections are taken and nothing is answered"
    UNAVAILABLE = "everything is answered with 503"


@dataclass(frozen=True)
class Passing:
    """A request on its way."""

    method: str
    path: str
    size: int


Choose = Callable[[Passing], Fault | None]


def seeded_faults(seed: int, share: float) -> Choose:
    """Breaks this share of all requests, each in one of all ways, by a seed."""
    chance = random.Random(seed)

    def choose(passing: Passing) -> Fault | None:
        return chance.choice(tuple(Fault)) if chance.random() < share else None

    return choose


class FaultProxy(StreamServer):
    """Passes requests on to `port` of this machine. `choose` says what happens to each; None = nothing."""

    def __init__(self, port: int, choose: Choose = lambda _: None, *, break_at: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self.choose = choose
        self.break_at = break_at
        self.away: Away | None = None
        self.faults: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.bodies: list[tuple[str, str, int]] = []
        """Method, path and bytes of every body that was answered or broken off."""
        self._target = port
        self._chance = random.Random(seed)

    def retarget(self, port: int) -> None:
        """Pass on to another port from now on."""
        self._target = port

    def report(self) -> str:
        """What was done to how many requests."""
        broken = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        return f"{sum(self.requests.values())} requests: {broken or 'none broken'}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._one(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            pass  # a connection broke, which is what this is for
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away == Away.REFUSED:
            return
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, headers = _parse(head)
        size = int(headers.get(b"content-length", b"0"))
        self.requests[f"{method} {path.split('?')[0].split('/')[1]}"] += 1
        if self.away == Away.SILENT:
            await reader.read()
            return
        if self.away == Away.UNAVAILABLE:
            await _refuse(reader, writer, size)
            return
        fault = self.choose(Passing(method, path, size))
        if fault is not None:
            self.faults[fault.value] += 1
        if fault == Fault.DROP:
            return
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        if size > _KEPT_BYTES and fault not in (None, Fault.BREAK_BODY):
            fault = None
        if size > _KEPT_BYTES or fault == Fault.BREAK_BODY:
            limit = int(size * self.break_at) if fault == Fault.BREAK_BODY else size
            await self._stream(reader, writer, _head_for(method, path, headers, size), limit, size, method, path)
            return
        body = await _chunks(reader) if chunked else await reader.readexactly(size)
        request = _head_for(method, path, headers, len(body)) + body
        if fault == Fault.DELAY:
            await asyncio.sleep(self._chance.random() * _LONGEST_DELAY)
        if fault == Fault.TWICE:
            self._aside(self._discard(request, 0))
        if fault == Fault.LATE_COPY:
            self._aside(self._discard(request, self._chance.random() * 2 * _LONGEST_DELAY))
        await self._pass(request, reader, writer, cut=fault == Fault.CUT_ANSWER)
        self.bodies.append((method, path, len(body)))

    async def _pass(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool
    ) -> None:
        upstream, sending = await self._connect()
        gone = asyncio.create_task(reader.read())
        try:
            sending.write(request)
            await sending.drain()
            if cut:
                answer = await upstream.read()
                writer.write(answer[: len(answer) // 2])
                await writer.drain()
                return
            while True:
                piece = asyncio.create_task(upstream.read(_PIECE_BYTES))
                await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    return
                if not (data := piece.result()):
                    return
                writer.write(data)
                await writer.drain()
        finally:
            gone.cancel()
            sending.close()

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: bytes,
        limit: int,
        size: int,
        method: str,
        path: str,
    ) -> None:
        upstream, sending = await self._connect()
        sent = 0
        try:
            sending.write(head)
            while sent < limit and (data := await reader.read(min(_PIECE_BYTES, limit - sent))):
                sending.write(data)
                await sending.drain()
                sent += len(data)
            if sent == size:
                while data := await upstream.read(_PIECE_BYTES):
                    writer.write(data)
                    await writer.drain()
        finally:
            self.bodies.append((method, path, sent))
            sending.close()

    async def _discard(self, request: bytes, after: float) -> None:
        await asyncio.sleep(after)
        with suppress(OSError, TimeoutError):
            upstream, sending = await self._connect()
            try:
                sending.write(request)
                await sending.drain()
                async with asyncio.timeout(_UPSTREAM_SECONDS):
                    await upstream.read()
            finally:
                sending.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._target)

    def _aside(self, work: Coroutine[None, None, None]) -> None:
        self.keep(asyncio.create_task(work))


def _parse(head: bytes) -> tuple[str, str, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    method, path, _ = first.decode().split(" ", 2)
    fields = (line.split(b":", 1) for line in lines if line)
    return method, path, {name.lower(): value.strip() for name, value in fields}


def _head_for(method: str, path: str, headers: dict[bytes, bytes], size: int) -> bytes:
    kept = {name: value for name, value in headers.items() if name not in (b"connection", b"transfer-encoding")}
    if size or method not in ("GET", "HEAD"):
        kept[b"content-length"] = str(size).encode()
    kept[b"connection"] = b"close"
    lines = [f"{method} {path} HTTP/1.1".encode(), *(name + b": " + value for name, value in kept.items())]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        found += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return bytes(found)


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    left = size
    while left and (data := await reader.read(min(_PIECE_BYTES, left))):
        left -= len(data)
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
