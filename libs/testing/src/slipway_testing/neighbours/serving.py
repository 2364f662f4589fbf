"""An ASGI app behind a real port of this machine, which can go away and come back."""

import asyncio

from starlette.types import ASGIApp

from slipway_kit.servers import LoopServer, bind, make_server
from slipway_testing.listening import Restartable


class ServedApp(Restartable):
    """Serves an app on loopback in this event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._port = 0
        self._server: LoopServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Origin of the app."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        listener = bind("127.0.0.1", self._port, "neighbour")
        self._port = listener.getsockname()[1]
        self._server = make_server(self._app, 1)
        self._task = asyncio.create_task(self._server.serve([listener]))
        async with asyncio.timeout(5):
            while not self._server.started:
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._server is None or self._task is None:
            return
        self._server.stop()
        self._server.force_exit = True
        await self._task
        self._server = self._task = None
