"""Keeps an embedded server running: it is back within about a second, however it ended."""

import asyncio
from typing import Protocol

from slipway_allinone.embedded.process import EmbeddedServerError
from slipway_kit.logging import get_logger

_log = get_logger()

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


class EmbeddedServer(Protocol):
    """What is common to the embedded servers."""

    @property
    def name(self) -> str:
        """Name in logs and in processes.json."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        ...

    async def start(self) -> None:
        """Start and return when it is ready. Raises EmbeddedServerError."""
        ...

    async def wait_ended(self) -> int | None:
        """Wait until it has ended; gives its exit code."""
        ...


async def keep_running(server: EmbeddedServer) -> None:
    """Start a server again whenever it ends, until cancelled. It must have been started before."""
    loop = asyncio.get_running_loop()
    while True:
        code = await server.wait_ended()
        ended_at = loop.time()
        _log.warning("server_ended", server=server.name, code=code)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await server.start()
            except EmbeddedServerError as error:
                _log.error("server_does_not_start", server=server.name, error=str(error), again_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                break
        away = round(loop.time() - ended_at, 2)
        _log.warning("server_started_again", server=server.name, pid=server.pid, seconds_away=away)
