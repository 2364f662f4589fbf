"""A uvicorn server that shares its event loop with others and leaves signals to the supervisor."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STOPPING = "slipway.stopping"
"""Key in the ASGI scope of an `asyncio.Event` that is set when the process starts to stop."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open. Longer than our clients keep theirs (20 s): a server that closes first can
meet a request that is already on its way, and a POST must not be sent twice on suspicion."""


class BindError(Exception):
    """A port cannot be listened on; the message names address, reason and setting."""


class LoopServer(uvicorn.Server):
    """Wakes once a second instead of ten times, and stops at once when asked."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._wake = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def main_loop(self) -> None:
        """Refresh the date header every second until asked to stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 1.0)

    def stop(self) -> None:
        """Ask the server to take no more connections, finish its requests, and end."""
        self.should_exit = True
        self._wake.set()


def make_server(app: ASGIApp, drain_seconds: int) -> LoopServer:
    """Make a server for sockets that are already bound."""
    return LoopServer(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=drain_seconds,
        )
    )


def bind(host: str, port: int, what: str) -> socket.socket:
    """Listen on `host:port` (0: any free port). Raises `BindError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise BindError(
            f"The {what} app cannot listen on {host}:{port}: {error.strerror}. "
            "Stop what uses the port, or set another one."
        ) from error
    # Inherited by what is accepted. An answer's body must not wait until its head was acknowledged, 40 ms later.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


class Hosted:
    """Pure ASGI around an app: names the service in logs, shows the stop, ends event streams at the stop."""

    def __init__(self, app: ASGIApp, service: str, stopping: asyncio.Event) -> None:
        self._app = app
        self._service = service
        self._stopping = stopping
        self._streams: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()

    def end_streams(self) -> None:
        """Cancel the open event streams, which would never end by themselves; clients connect again."""
        for task in self._streams:
            self._ended.add(task)
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[STOPPING] = self._stopping
        task = asyncio.current_task()
        open_stream = False

        async def noting_send(message: Message) -> None:
            nonlocal open_stream
            if message["type"] == "http.response.start" and _is_event_stream(message) and task is not None:
                open_stream = True
                self._streams.add(task)
            await send(message)

        with structlog.contextvars.bound_contextvars(service=self._service):
            try:
                await self._app(scope, receive, noting_send)
            except asyncio.CancelledError:
                if task is None or task not in self._ended:
                    raise
                task.uncancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                if open_stream and task is not None:
                    self._streams.discard(task)
                    self._ended.discard(task)


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
    )
