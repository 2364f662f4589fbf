"""A client's connection to the relay, and its requests one after the other."""

import asyncio
from collections import deque
from typing import Protocol

import httptools

from slipway_builder.router.answers import FAILURES
from slipway_builder.router.deciding import Decider
from slipway_builder.router.engines.relay_backend import Pool
from slipway_builder.router.engines.relay_exchange import Exchange
from slipway_builder.router.engines.relay_heads import Client, Head, own_answer
from slipway_builder.router.engines.relay_writing import BatchedWriter
from slipway_builder.router.load import RequestLoad
from slipway_builder.router.settings import TimeoutSettings

MAX_HEAD_BYTES = 64 * 1024


class Relay(Protocol):
    """What connections share."""

    @property
    def decider(self) -> Decider:
        """Says where a request goes."""
        ...

    @property
    def pool(self) -> Pool:
        """Connections to servers."""
        ...

    @property
    def arrivals(self) -> RequestLoad:
        """Counts requests of endpoints that may be asleep."""
        ...

    @property
    def timeouts(self) -> TimeoutSettings:
        """How long to wait."""
        ...

    @property
    def connections(self) -> set["ClientConnection"]:
        """The open connections of clients."""
        ...

    def trusts(self, address: str) -> bool:
        """Whether that is a proxy of ours."""
        ...

    def note(self, line: bytes) -> None:
        """Count an answered request."""
        ...


class ClientConnection(asyncio.Protocol):
    """Reads requests; each is an exchange, and the next begins when the one before has ended."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._parser = httptools.HttpRequestParser(self)
        self._out = BatchedWriter()
        self._exchanges: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._head = Head()
        self._head_bytes = 0
        self._peer = ""
        self._secure = False
        self._closing = False
        self._paused_for: set[str] = set()
        self._touched = self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out.attach(transport)
        self._peer = transport.get_extra_info("peername")[0]
        self._secure = transport.get_extra_info("ssl_object") is not None
        self.relay.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self.relay.connections.discard(self)
        for exchange in self._exchanges:
            exchange.abandon()
        self._exchanges.clear()

    def data_received(self, data: bytes) -> None:
        self._touched = self._now()
        if self._closing:
            return
        if self._exchanges and self._exchanges[-1].upgrading:
            self._exchanges[-1].request_body(data)
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if rest := data[upgrade.args[0] :]:
                self._exchanges[-1].request_body(rest)
        except httptools.HttpParserError:
            self._refuse_rest()
        if self._reading is None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_rest()
        self.hold("pipeline", len(self._exchanges) > 1)

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked for is still answered."""
        if self._exchanges and self._exchanges[0].tunnel:
            self._exchanges[0].end_tunnel()
        else:
            self._closing = True
        return bool(self._exchanges) and not self._secure

    def pause_writing(self) -> None:
        if self._exchanges:
            self._exchanges[0].pause_answer(True)

    def resume_writing(self) -> None:
        if self._exchanges:
            self._exchanges[0].pause_answer(False)

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._touched = self._now()
        self._out.write(data)

    def hold(self, why: str, hold: bool) -> None:
        """Stop reading from the client for a reason, or no longer for that reason."""
        before = bool(self._paused_for)
        (self._paused_for.add if hold else self._paused_for.discard)(why)
        if bool(self._paused_for) != before:
            self._out.pause_reading(hold)

    def finished(self, exchange: Exchange, *, close: bool) -> None:
        """An exchange has ended: close, or begin the next one."""
        if not self._exchanges or self._exchanges[0] is not exchange:
            return
        self._exchanges.popleft()
        self._touched = self._now()
        self.hold("server", False)
        if close or (self._closing and not self._exchanges):
            self.close()
        elif self._exchanges:
            self._exchanges[0].start()
            self.hold("pipeline", len(self._exchanges) > 1)

    def close(self) -> None:
        """Close when what was written has been sent."""
        self._closing = True
        self._out.close()

    def abort(self) -> None:
        """Close at once: the client must see that the answer is not complete."""
        self._closing = True
        self._out.abort()

    def sweep(self) -> None:
        """End what has waited too long."""
        idle, waits = self._now() - self._touched, self.relay.timeouts
        if self._exchanges:
            exchange = self._exchanges[0]
            if idle > (waits.tunnel if exchange.tunnel else waits.answer):
                exchange.too_late()
        elif idle > (waits.head if self._head_bytes else waits.keep_alive):
            if self._head_bytes:
                self.write(own_answer(FAILURES[408], version=None, close=True, bodiless=False))
            self.close()

    def on_message_begin(self) -> None:
        self._head = Head()
        self._reading = None

    def on_url(self, url: bytes) -> None:
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is None:
            self._head.headers.append((name.lower(), name, value))

    def on_headers_complete(self) -> None:
        head = self._head
        head.method = self._parser.get_method()
        head.old = self._parser.get_http_version() != "1.1"
        head.upgrade = self._parser.should_upgrade()
        keep = self._parser.should_keep_alive() and not head.old
        client = Client(self._peer, self._secure, self.relay.trusts(self._peer))
        self._reading = Exchange(self, head, client, keep=keep)
        self._exchanges.append(self._reading)
        if len(self._exchanges) == 1:
            self._reading.start()

    def on_body(self, data: bytes) -> None:
        if self._reading is not None:
            self._reading.request_body(data)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if self._reading is not None:
            exchange, self._reading = self._reading, None
            exchange.request_ended()

    def _refuse_rest(self) -> None:
        """What follows is no HTTP: answer so, after what is under way."""
        self._closing = True
        self.relay.note(b"- - - 400 -1 -1 refused -")
        if self._reading is not None:
            self.abort()
        elif not self._exchanges:
            self.write(own_answer(FAILURES[400], version=None, close=True, bodiless=False))
            self.close()
