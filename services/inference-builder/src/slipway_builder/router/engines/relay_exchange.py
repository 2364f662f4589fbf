"""One request through the relay and its answer."""

import asyncio
import time
from typing import TYPE_CHECKING

from slipway_builder.router.answers import FAILURES, NOT_AWAKE, TRY_AGAIN_SECONDS, Answer
from slipway_builder.router.deciding import Forward, Refusal
from slipway_builder.router.engines.relay_backend import BackendConnection
from slipway_builder.router.engines.relay_heads import (
    Client,
    Head,
    InvalidRequest,
    answer_head,
    check,
    origin_form,
    own_answer,
    request_head,
)

if TYPE_CHECKING:
    from slipway_builder.router.engines.relay_client import ClientConnection

_MOST_WAITING = 256 * 1024
"""Bytes of a body that are held while the connection to the server is made."""
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Requests that may be sent a second time when a kept connection turns out to be closed."""
_SWITCHING = 101


class Exchange:
    """Passes a request on by the table as it is when the request's turn comes, and the answer back."""

    def __init__(self, connection: "ClientConnection", head: Head, client: Client, *, keep: bool) -> None:
        self.upgrading = head.upgrade
        """What the client sends after the head is for another protocol, or for nobody."""
        self.tunnel = False
        """The server has agreed to the other protocol."""
        self._client = connection
        self._head = head
        self._from = client
        self._keep = keep
        self._decision: Forward | None = None
        self._target = b""
        self._backend: BackendConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._early: list[bytes] = []
        self._request_complete = False
        self._started = self._answered = self._done = False
        self._chunked = False
        self._began_at = 0.0
        self._counted: str | None = None

    @property
    def bodiless(self) -> bool:
        """Whether the answer has no body whatever its head says."""
        return self._head.method == b"HEAD"

    def start(self) -> None:
        """Decide and send."""
        self._started = True
        self._began_at = time.perf_counter()
        try:
            check(self._head)
            path, self._target = origin_form(self._head)
        except (InvalidRequest, ValueError):
            self._keep = False
            self._answer(FAILURES[400])
            return
        decision = self._client.relay.decider.decide(path, self._head.headers, self._address(), time.time())
        if isinstance(decision, Refusal):
            self._answer(decision.answer, decision.headers)
            return
        self._decision = decision
        if decision.backend.wakes:
            self._counted = decision.backend.wakes
            self._client.relay.arrivals.arrived(self._counted)
        self._send()

    def request_body(self, data: bytes) -> None:
        """A part of the request's body, or of the websocket's bytes."""
        if self._done:
            return
        if self.upgrading and not self.tunnel:
            self._early.append(data)
            self._client.hold("server", True)
        elif self._backend is not None:
            self._backend.write(self._framed(data))
        elif not self._answered:
            self._waiting.append(self._framed(data))
            self._waiting_bytes += len(data)
            if self._waiting_bytes > _MOST_WAITING:
                self._client.hold("server", True)

    def request_ended(self) -> None:
        """The request's body is complete."""
        self._request_complete = True
        if self._head.chunked and not self._done:
            if self._backend is not None:
                self._backend.write(b"0\r\n\r\n")
            elif not self._answered:
                self._waiting.append(b"0\r\n\r\n")
        if self._done:
            self._client.finished(self, close=not self._keep)

    def end_tunnel(self) -> None:
        """The client sends no more on the websocket."""
        if self._backend is not None:
            self._backend.end_tunnel()

    def pause_answer(self, pause: bool) -> None:
        """Stop or go on reading from the server: the client is slower."""
        if self._backend is not None:
            self._backend.pause(pause)

    def abandon(self) -> None:
        """The client is gone."""
        self._done = True
        self._leave()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._backend is not None:
            self._backend.abort()

    def too_late(self) -> None:
        """Nothing has moved for too long."""
        if self._done or self._answered:
            self._client.abort()
            return
        if self._backend is not None:
            self._backend.abort()
            self._backend = None
        self._keep = False
        self._answer(FAILURES[504] if self._request_complete else FAILURES[408])

    def began(self, status: int, reason: bytes, head: Head, *, framed: bool) -> None:
        """The server's answer begins."""
        self._answered = True
        assert self._decision is not None  # noqa: S101 - an answer follows a decision
        if status != _SWITCHING:
            self._keep = self._keep and not self.upgrading
            self._chunked = (head.chunked or not framed) and not self._head.old and not self.bodiless
            self._keep = self._keep and (framed or self._chunked or self.bodiless)
        elif not (head.websocket and self._head.websocket):
            self._client.abort()
            return
        self.tunnel = status == _SWITCHING
        self._note(status)
        version = self._decision.backend.version
        close = not self._keep
        self._client.write(answer_head(status, reason, head, version, close=close, chunked=self._chunked))
        if self.tunnel and self._backend is not None:
            self._backend.write(b"".join(self._early))
            self._early.clear()
            self._client.hold("server", False)

    def interim(self, status: int, reason: bytes) -> None:
        """The server says that it goes on."""
        self._client.write(b"HTTP/1.1 %d %b\r\n\r\n" % (status, reason))

    def body(self, data: bytes) -> None:
        """A part of the answer's body."""
        self._client.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def ended(self, *, reusable: bool) -> None:
        """The answer is complete."""
        if self._chunked:
            self._client.write(b"0\r\n\r\n")
        backend, self._backend = self._backend, None
        if backend is not None:
            if reusable and self._request_complete and not self.upgrading:
                self._client.relay.pool.keep(backend)
            else:
                backend.abort()
        self._finish()

    def broken(self) -> None:
        """The server's connection ended too early."""
        backend, self._backend = self._backend, None
        if self._answered:
            self._done = True
            self._client.abort()
        elif backend is not None and backend.used_before and self._repeatable:
            self._send()
        else:
            self._answer(FAILURES[502])

    def writable(self, free: bool) -> None:
        """Whether the server takes more of the request."""
        self._client.hold("server", not free)

    @property
    def _repeatable(self) -> bool:
        no_body = self._head.value(b"content-length") in (None, b"0") and not self._head.chunked
        return self._head.method in _REPEATABLE and no_body and not self._head.upgrade

    def _send(self) -> None:
        assert self._decision is not None  # noqa: S101 - sent after a decision
        connection = self._client.relay.pool.take(self._decision.backend)
        if connection is None:
            self._connecting = asyncio.create_task(self._connect(self._decision))
        else:
            self._use(connection, self._decision)

    async def _connect(self, decision: Forward) -> None:
        try:
            connection = await self._client.relay.pool.connect(decision.backend)
        except (OSError, TimeoutError):
            self._connecting = None
            if decision.backend.wakes:
                self._answer(NOT_AWAKE, (("Retry-After", str(TRY_AGAIN_SECONDS)),))
            else:
                self._answer(FAILURES[503])
            return
        self._connecting = None
        self._use(connection, decision)

    def _use(self, connection: BackendConnection, decision: Forward) -> None:
        self._backend = connection
        head = request_head(self._head, self._target, decision, self._from)
        waiting, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        connection.begin(self, head + waiting)
        if not self._early:
            self._client.hold("server", False)

    def _answer(self, answer: Answer, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer in the server's place."""
        self._answered = True
        if self.upgrading or (not self._request_complete and self._head.value(b"expect") is not None):
            self._keep = False
        version = None if self._decision is None else self._decision.backend.version
        self._note(answer.status)
        self._client.write(
            own_answer(answer, headers=headers, version=version, close=not self._keep, bodiless=self.bodiless)
        )
        self._finish()

    def _finish(self) -> None:
        """The answer is complete; what is left of the request is read and forgotten, so that the client reads it."""
        self._done = True
        self._leave()
        self._waiting.clear()
        if self._request_complete or (not self._keep and (self.upgrading or self._head.value(b"expect") is not None)):
            self._client.finished(self, close=not self._keep)
        else:
            self._client.hold("server", False)

    def _leave(self) -> None:
        """Nothing of it is open any more."""
        if self._counted:
            self._client.relay.arrivals.left(self._counted)
            self._counted = None

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._head.chunked else data

    def _address(self) -> str:
        forwarded = self._head.value(b"x-forwarded-for") if self._from.trusted else None
        return forwarded.rpartition(b",")[2].strip().decode("latin-1") if forwarded else self._from.address

    def _note(self, status: int) -> None:
        waited = int((time.perf_counter() - self._began_at) * 1000)
        if self._decision is None:
            self._client.relay.note(b"- - - %d -1 -1 refused -" % status)
            return
        route, backend, key_id = self._decision.route, self._decision.backend, self._decision.key_id or "-"
        self._client.relay.note(f"{route.prefix}/ {backend.version_id} {key_id} {status} 0 {waited} plain -".encode())
