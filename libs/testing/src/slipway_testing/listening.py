"""Servers of tests that can go away and come back on the same port."""

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Restartable(ABC):
    """Runs inside `async with`. After `stop` connections are refused until `start`."""

    @abstractmethod
    async def start(self) -> None:
        """Listen, on the same port as before."""

    @abstractmethod
    async def stop(self) -> None:
        """Close the port and every connection."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class StreamServer(Restartable):
    """Hands every connection to `serve`."""

    def __init__(self, host: str = "127.0.0.1", head_bytes: int = 64 * 1024) -> None:
        self.host = host
        self.port = 0
        self._head_bytes = head_bytes
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Origin, for those who can reach `host`."""
        return f"http://{self.host}:{self.port}"

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, and close it. Cancelled by `stop`."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=self._head_bytes)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def keep(self, task: "asyncio.Task[None]") -> None:
        """End the task with the server."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self.keep(task)
        await self.serve(reader, writer)
