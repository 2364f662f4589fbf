"""A version's endpoint as a router meets it: a raw HTTP/1.1 server that notes what it got and can misbehave."""

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BLOCK = b"x" * 65_536


_SERVER = """
import asyncio, sys
from pods import Pod
async def main():
    pod = Pod(sys.argv[2], host="0.0.0.0")
    pod.port = int(sys.argv[1])
    async with pod:
        await asyncio.Event().wait()
asyncio.run(main())
"""


_SMALL_SERVER = """
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\\r\\n\\r\\n")
        if heads:
            self.transport.write(ANSWER * len(heads))
async def main():
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Server, "0.0.0.0", int(sys.argv[1]), backlog=1024) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def small_project() -> dict[str, str]:
    """Files of a commit whose `python3 server.py <port>` takes next to no CPU time, for what measures others."""
    return {"server.py": _SMALL_SERVER}


def pod_project() -> dict[str, str]:
    """Files of a commit whose `python3 server.py <port> <name>` is such a server; Python alone is enough for it."""
    return {"server.py": _SERVER, "pods.py": Path(__file__).read_text()}


@dataclass(frozen=True)
class Seen:
    """A request that reached the pod."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body_bytes: int
    body_sha256: str
    connection: int

    def header(self, name: str) -> list[str]:
        """Values of a header, name in lower case."""
        return [value for one, value in self.headers if one == name]


class Pod:
    """Answers by the last segment of the path: `echo` (also anything else), `stream`, `events`, `ws`, `bytes-N`,
    `slow-MS`, `drop` (closes without an answer), `close` (answers and closes), `early` (answers before the body),
    `status-N`, `old` (an HTTP/1.0 answer that ends with the connection).
    """

    def __init__(self, name: str, keep_seconds: float = 60.0, host: str = "127.0.0.1") -> None:
        self.name = name
        self.host = host
        self.seen: list[Seen] = []
        self.connections = 0
        self._keep_seconds = keep_seconds
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            while await self._request(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        async with asyncio.timeout(self._keep_seconds):
            raw = await reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = [line.partition(":") for line in rest]
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        action = target.partition("?")[0].rpartition("/")[2]
        if action == "early":
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return False
        if ("expect", "100-continue") in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size, digest = await _read_body(reader, dict(headers))
        self.seen.append(Seen(method, target, headers, size, digest, number))
        return await self._answer(action, self.seen[-1], reader, writer)

    async def _answer(
        self, action: str, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if action == "drop":
            writer.transport.abort()
            return False
        if action == "ws":
            await self._websocket(seen, reader, writer)
            return False
        if action in ("stream", "events"):
            await self._stream(action, writer)
            return True
        if match := re.fullmatch(r"bytes-(\d+)", action):
            await self._bytes(int(match[1]), writer)
            return True
        if match := re.fullmatch(r"slow-(\d+)", action):
            await asyncio.sleep(int(match[1]) / 1000)
        status = int(match[1]) if (match := re.fullmatch(r"status-(\d+)", action)) else 200
        document = {
            "pod": self.name,
            "method": seen.method,
            "target": seen.target,
            "headers": seen.headers,
            "body_bytes": seen.body_bytes,
            "body_sha256": seen.body_sha256,
        }
        body = json.dumps(document).encode()
        framing = "" if action == "old" else f"Content-Length: {len(body)}\r\n"
        version = "1.0" if action == "old" else "1.1"
        extra = "Connection: close\r\n" if action == "close" else ""
        head = (
            f"HTTP/{version} {status} Said\r\nContent-Type: application/json\r\nX-Slipway-Version: forged\r\n"
            f"X-Pod: {self.name}\r\n{framing}{extra}\r\n"
        )
        writer.write(head.encode() + (b"" if seen.method == "HEAD" else body))
        await writer.drain()
        return action not in ("old", "close")

    async def _stream(self, action: str, writer: asyncio.StreamWriter) -> None:
        kind = "text/event-stream" if action == "events" else "text/plain"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for number in range(5):
            data = f"data: {number}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    @staticmethod
    async def _bytes(count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
        while count:
            block = _BLOCK[:count]
            count -= len(block)
            writer.write(block)
            await writer.drain()

    @staticmethod
    async def _websocket(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = seen.header("sec-websocket-key")[0].encode()
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while length := int((await reader.readuntil(b"\r\n")).strip().partition(b";")[0], 16):
            data = await reader.readexactly(length + 2)
            digest.update(data[:-2])
            size += length
        await reader.readuntil(b"\r\n")
        return size, digest.hexdigest()
    left = int(headers.get("content-length", 0))
    while left:
        data = await reader.read(min(left, 65_536))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        digest.update(data)
        size += len(data)
        left -= len(data)
    return size, digest.hexdigest()
