"""A port of another address of this machine that leads to one of its own, and can be closed for a while."""

import asyncio
from contextlib import suppress

from slipway_testing.listening import StreamServer

_PIECE_BYTES = 64 * 1024


class Forwarding(StreamServer):
    """Passes connections to `host` on to `target` of 127.0.0.1."""

    def __init__(self, host: str, target: int) -> None:
        super().__init__(host)
        self._target = target

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            back, on = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(_pass(reader, on), _pass(back, writer))
            finally:
                on.close()
        writer.close()


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE_BYTES):
        sink.write(data)
        await sink.drain()
    sink.close()
