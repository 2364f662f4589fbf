"""Connections of the relay to the endpoints' servers."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from slipway_builder.router.engines.relay_heads import Head
from slipway_builder.router.engines.relay_writing import BatchedWriter
from slipway_builder.router.table import BackendEntry

IDLE_SECONDS = 1.5
"""Longest time that a kept connection was not used; servers close theirs after 2 s and more."""
_CONNECT_PAUSES = (0.0, 0.1, 0.4)
_WAKE_PAUSE = 0.5
"""Between the tries to reach an endpoint that may be asleep, and the longest that one may take."""
_LOWEST_FINAL = 200
_SWITCHING = 101


class Reply(Protocol):
    """Who hears what the server answers. `broken` comes instead of `ended`."""

    @property
    def bodiless(self) -> bool:
        """Whether the answer has a head only, whatever the head says."""
        ...

    def began(self, status: int, reason: bytes, head: Head, *, framed: bool) -> None:
        """The head is there; `framed` = it says where the body ends."""
        ...

    def interim(self, status: int, reason: bytes) -> None:
        """An answer before the answer."""
        ...

    def body(self, data: bytes) -> None:
        """A part of the body, or of the websocket's bytes."""
        ...

    def ended(self, *, reusable: bool) -> None:
        """The answer is complete."""
        ...

    def broken(self) -> None:
        """The connection ended before the answer did."""
        ...

    def writable(self, free: bool) -> None:
        """Whether the server takes more bytes at once."""
        ...


class BackendConnection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.idle_since = 0.0
        self.used_before = False
        self.closed = False
        self._out = BatchedWriter()
        self._reply: Reply | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head = Head()
        self._reason = b""
        self._until_close = False
        self._tunnel = False
        self._reusable = False

    @property
    def idle(self) -> bool:
        """Whether it carries no request and is open."""
        return self._reply is None and not self.closed

    def begin(self, reply: Reply, head: bytes) -> None:
        """Send a request's head; the answer goes to `reply`."""
        self._reply = reply
        self._head = Head()
        self._until_close = self._tunnel = False
        self.write(head)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if not self.closed:
            self._out.write(data)

    def end_tunnel(self) -> None:
        """The client has nothing more to say on the websocket."""
        self._out.flush()
        if self._out.transport is not None and self._out.transport.can_write_eof():
            self._out.transport.write_eof()

    def pause(self, pause: bool) -> None:
        """Stop or go on reading the answer."""
        if not self.closed:
            self._out.pause_reading(pause)

    def abort(self) -> None:
        """Close at once; nobody hears of it."""
        self._reply = None
        self.closed = True
        self._out.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out.attach(transport)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            self.abort()
            return
        if self._tunnel:
            reply.body(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if rest and self._reply is not None:
                self._reply.body(rest)
        except httptools.HttpParserError:
            self._break()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if error is None and (self._until_close or self._tunnel):
            reply.ended(reusable=False)
        else:
            reply.broken()

    def pause_writing(self) -> None:
        if self._reply is not None:
            self._reply.writable(False)

    def resume_writing(self) -> None:
        if self._reply is not None:
            self._reply.writable(True)

    def on_message_begin(self) -> None:
        self._head = Head()
        self._reason = b""

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.headers.append((name.lower(), name, value))

    def on_headers_complete(self) -> None:
        status, reply = self._parser.get_status_code(), self._reply
        if reply is None or (status < _LOWEST_FINAL and status != _SWITCHING):
            return
        self._head.upgrade = self._tunnel = status == _SWITCHING
        self._reusable = self._parser.should_keep_alive() and not self._tunnel
        framed = self._head.value(b"content-length") is not None or self._head.chunked or status in (204, 304)
        self._until_close = not framed and not self._tunnel and not reply.bodiless
        reply.began(status, self._reason, self._head, framed=framed)
        if reply.bodiless and not self._tunnel:
            self._parser = httptools.HttpResponseParser(self)
            self._finish()

    def on_body(self, data: bytes) -> None:
        if self._reply is not None:
            self._reply.body(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._reply is None or self._tunnel:
            return
        if status < _LOWEST_FINAL:
            self._reply.interim(status, self._reason)
        else:
            self._finish()

    def _finish(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.ended(reusable=self._reusable)

    def _break(self) -> None:
        reply, self._reply = self._reply, None
        self.abort()
        if reply is not None:
            reply.broken()


class Pool:
    """Kept connections by address, and new ones."""

    def __init__(self, connect_seconds: float, wake_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._wake_seconds = wake_seconds
        self._idle: dict[tuple[str, int], list[BackendConnection]] = {}
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def take(self, backend: BackendEntry) -> BackendConnection | None:
        """A kept connection, the one last used."""
        kept = self._idle.get((backend.host, backend.port), [])
        while kept:
            connection = kept.pop()
            if connection.idle and self._now() - connection.idle_since < IDLE_SECONDS:
                connection.used_before = True
                return connection
            connection.abort()
        return None

    def keep(self, connection: BackendConnection) -> None:
        """Keep a connection whose answer is complete."""
        connection.idle_since = self._now()
        self._idle.setdefault(connection.address, []).append(connection)

    async def connect(self, backend: BackendEntry) -> BackendConnection:
        """A new connection.

        Raises OSError or TimeoutError after three tries, or when an endpoint that may be asleep is not awake in time.
        """
        if backend.wakes:
            async with asyncio.timeout(self._wake_seconds):
                while True:
                    try:
                        return await self._connect(backend, min(self._connect_seconds, _WAKE_PAUSE))
                    except OSError:  # also when nobody answers for so long
                        await asyncio.sleep(_WAKE_PAUSE)
        failure: OSError | None = None
        for pause in _CONNECT_PAUSES:
            await asyncio.sleep(pause)
            try:
                return await self._connect(backend, self._connect_seconds)
            except ConnectionError as error:
                failure = error
        raise failure or OSError("no connection")

    async def _connect(self, backend: BackendEntry, seconds: float) -> BackendConnection:
        address = backend.host, backend.port
        async with asyncio.timeout(seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: BackendConnection(address), *address
            )
        return connection

    def sweep(self) -> None:
        """Close what was not used for long."""
        oldest = self._now() - IDLE_SECONDS
        for address, kept in list(self._idle.items()):
            for connection in kept:
                if connection.idle_since < oldest or connection.closed:
                    connection.abort()
            self._idle[address] = [one for one in kept if not one.closed]
            if not self._idle[address]:
                del self._idle[address]

    def close(self) -> None:
        """Close everything that is kept."""
        for kept in self._idle.values():
            for connection in kept:
                connection.abort()
        self._idle.clear()
