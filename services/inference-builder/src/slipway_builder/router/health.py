"""`/healthz`, `/readyz`, `/metrics` and `/load/<endpoint id>` of a router, on a port of their own."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from itertools import groupby
from uuid import UUID

from slipway_builder.router.control import Control
from slipway_builder.router.counting import RequestCounts
from slipway_builder.router.engines.protocol import Engine, EngineError

_OK = "200 OK"
_NOT_NOW = "503 Service Unavailable"
_LOAD = b"/load/"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_HEAD_BYTES = 16 * 1024
_READ_SECONDS = 10.0
_GAUGES = ("slipway_router_revision", "slipway_router_ready", "slipway_router_seconds_since_builder")


class HealthServer:
    """Answers four paths and closes the connection each time."""

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
                path = words[1].partition(b"?")[0] if len(words) > 1 else b""
                status, kind, text = await self._answer(path)
                body = text.encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    async def _answer(self, path: bytes) -> tuple[str, str, str]:
        if path == b"/healthz":
            return _OK, _TEXT, "ok\n"
        if path == b"/readyz":
            reason = self._control.not_ready()
            return (_OK, _TEXT, "ready\n") if reason is None else (_NOT_NOW, _TEXT, f"Not ready: {reason}\n")
        if path == b"/metrics":
            return _OK, _TEXT, self._metrics()
        if path.startswith(_LOAD):
            return await self._load(path.removeprefix(_LOAD).decode(errors="replace"))
        return "404 Not Found", _TEXT, "There are /healthz, /readyz, /metrics and /load/<endpoint id>.\n"

    async def _load(self, endpoint: str) -> tuple[str, str, str]:
        try:
            requests = await self._engine.load(UUID(endpoint))
        except ValueError:
            return "404 Not Found", _TEXT, "After /load/ comes the id of an endpoint.\n"
        except EngineError as error:
            return _NOT_NOW, _TEXT, f"{error}\n"
        return _OK, "application/json", json.dumps({"requests": requests})

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
