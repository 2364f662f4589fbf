"""HTTP/1.1 by hand, for what clients' libraries refuse to send and hide when they read."""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class WireAnswer:
    """An answer as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, in lower case."""
        return next((value for one, value in self.headers if one == name), None)

    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)


class Wire:
    """One connection, to 127.0.0.1 unless another host is named."""

    def __init__(self, port: int, timeout: float = 15.0, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection(self._host, self._port, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    @property
    def reader(self) -> asyncio.StreamReader:
        """What the server says."""
        assert self._streams is not None
        return self._streams[0]

    @property
    def writer(self) -> asyncio.StreamWriter:
        """What is said to the server."""
        assert self._streams is not None
        return self._streams[1]

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, path: str, *headers: str) -> WireAnswer:
        """A GET request and its answer."""
        await self.send(request("GET", path, *headers))
        return await self.answer()

    async def head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Status and headers of the next answer."""
        async with asyncio.timeout(self._timeout):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in rest)
        return int(first.split(" ")[1]), tuple((name.lower(), value.strip()) for name, _, value in pairs)

    async def answer(self, *, bodiless: bool = False) -> WireAnswer:
        """The next whole answer. Raises `IncompleteReadError` when it breaks off."""
        status, headers = await self.head()
        found = dict(headers)
        async with asyncio.timeout(self._timeout):
            if bodiless or status in (204, 304) or status < 200:
                body = b""
            elif found.get("transfer-encoding") == "chunked":
                body = b"".join([part async for part in self.chunks()])
            elif "content-length" in found:
                body = await self.reader.readexactly(int(found["content-length"]))
            else:
                body = await self.reader.read(-1)
        return WireAnswer(status, headers, body)

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty = the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> Any:
        """Every chunk of a chunked body."""
        while data := await self.chunk():
            yield data

    async def closed(self) -> bool:
        """Whether the server closes the connection without another byte."""
        async with asyncio.timeout(self._timeout):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """A request's bytes; a body gets its Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: models.example.org", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
