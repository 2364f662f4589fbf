"""`python -m slipway_testing.router_load HOST PORT PATH RATE KEY`: requests at a fixed rate, however long answers take.

Half of them go over kept connections, half over one of their own. Says `running` when all kept ones are open, goes on
until its standard input ends, and prints one JSON document: how many requests were sent, in how many moments it was
behind, failures, and for every answer when its request was sent, when it was read (monotonic seconds) and its version.
This is for machines without Go; `router_load.go` does the same.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop

_KEPT = 16
_VERSION = re.compile(rb"x-slipway-version: (\S+)", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_ANSWER_SECONDS = 10.0


class _Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and len(body) >= (int(length[1]) if length else 0) and self._waiting and not self._waiting.done():
            self._waiting.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionError("closed without an answer"))

    async def ask(self, request: bytes) -> tuple[float, bytes]:
        """Send a request and return when that was, and the head of its answer."""
        self._data = b""
        self._waiting = asyncio.get_running_loop().create_future()
        sent = time.monotonic()
        self.transport.write(request)
        async with asyncio.timeout(_ANSWER_SECONDS):
            return sent, await self._waiting


class _Load:
    def __init__(self, host: str, port: int, path: str, key: str) -> None:
        self._address = (host, port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: models.example.org\r\nX-Api-Key: {key}\r\n\r\n".encode()
        self._kept: asyncio.Queue[_Client] = asyncio.Queue()
        self.failures: list[str] = []
        self.answers: list[tuple[float, float, str]] = []

    async def open(self) -> None:
        for _ in range(_KEPT):
            self._kept.put_nowait(await self._connect())

    async def one(self, number: int) -> None:
        try:
            sent, head = await (self._on_kept() if number % 2 else self._on_new())
        except (OSError, TimeoutError) as error:
            self.failures.append(repr(error))
            return
        found = _VERSION.search(head)
        if b" 200 " not in head[:16] or found is None:
            self.failures.append(head[:60].decode("latin-1"))
            return
        self.answers.append((sent, time.monotonic(), found[1].decode()))

    async def _on_kept(self) -> tuple[float, bytes]:
        client = await self._kept.get()
        try:
            return await client.ask(self._request)
        finally:
            self._kept.put_nowait(client if not client.transport.is_closing() else await self._connect())

    async def _on_new(self) -> tuple[float, bytes]:
        client = await self._connect()
        try:
            return await client.ask(self._request)
        finally:
            client.transport.close()

    async def _connect(self) -> _Client:
        _, client = await asyncio.get_running_loop().create_connection(_Client, *self._address)
        return client


async def _run(host: str, port: int, path: str, rate: float, key: str) -> None:
    load = _Load(host, port, path, key)
    await load.open()
    told = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    print("running", flush=True)
    tasks: set[asyncio.Task[None]] = set()
    began, sent, late = time.monotonic(), 0, 0
    while not told.done():
        due = int((time.monotonic() - began) * rate)
        late += max(0, due - sent - rate / 20) > 0
        while sent < due:
            task = asyncio.create_task(load.one(sent))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    print(json.dumps({"sent": sent, "late": late, "failures": load.failures, "answers": load.answers}))


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]))
