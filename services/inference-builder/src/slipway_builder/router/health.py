"""`/healthz`, `/readyz` and `/metrics` of a router, on a port of their own."""

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import groupby

from slipway_builder.router.control import Control
from slipway_builder.router.counting import RequestCounts
from slipway_builder.router.engines.protocol import Engine

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_HEAD_BYTES = 16 * 1024
_READ_SECONDS = 10.0
_GAUGES = ("slipway_router_revision", "slipway_router_ready", "slipway_router_seconds_since_builder")


class HealthServer:
    """Answers three paths and closes the connection each time."""

    def __init__(self, control: Control, engine: Engine, counts: RequestCounts) -> None:
        self._control = control
        self._engine = engine
        self._counts = counts
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=_HEAD_BYTES)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b" ", 2)
                status, text = self._answer(words[1].partition(b"?")[0] if len(words) > 1 else b"")
                body = text.encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {_TEXT}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    def _answer(self, path: bytes) -> tuple[str, str]:
        if path == b"/healthz":
            return "200 OK", "ok\n"
        if path == b"/readyz":
            reason = self._control.not_ready()
            return ("200 OK", "ready\n") if reason is None else ("503 Service Unavailable", f"Not ready: {reason}\n")
        if path == b"/metrics":
            return "200 OK", self._metrics()
        return "404 Not Found", "There are /healthz, /readyz and /metrics.\n"

    def _metrics(self) -> str:
        samples = sorted([*self._own_samples(), *self._counts.samples()], key=lambda one: one[0].removesuffix("_total"))
        lines: list[str] = []
        for name, group in groupby(samples, key=lambda one: one[0]):
            if not name.endswith(("_bucket", "_sum", "_count")):
                lines.append(f"# TYPE {name} {'gauge' if name in _GAUGES else 'counter'}")
            lines += [f"{name}{_labels(labels)} {value:.15g}" for _, labels, value in group]
        return "\n".join(lines) + "\n"

    def _own_samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        yield "slipway_router_revision", {}, self._control.revision
        yield "slipway_router_ready", {}, self._control.not_ready() is None
        yield "slipway_router_engine_restarts_total", {"engine": self._engine.name}, self._engine.restarts
        since = self._control.seconds_since_heard()
        if since is not None:
            yield "slipway_router_seconds_since_builder", {}, since


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return "{" + ",".join(escaped) + "}"


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
