"""`python -m tests.bench.router_server PORT`: does as little as a server can, so that the proxies are what costs."""

import asyncio
import sys

import uvloop

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"prediction":1}'


class _Server(asyncio.Protocol):
    """Answers every head that has come whole; requests have no bodies."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's transports are no subclass

    def data_received(self, data: bytes) -> None:
        whole = (self._rest + data).split(b"\r\n\r\n")
        self._rest = whole.pop()
        if self._transport is not None and whole:
            self._transport.write(_ANSWER * len(whole))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
