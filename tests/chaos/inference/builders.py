"""Builders as processes of their own, to be killed, stopped and continued."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from slipway_allinone.configuration import environment_of

_START_SECONDS = 180.0


class BuilderProcess:
    """One `slipway-builder serve`, started again with the same settings as often as it is killed."""

    def __init__(self, name: str, settings: Mapping[str, Any], port: int, log: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._environment = environment_of("builder", {**settings, "http": {"internal_port": port}})
        self._process: asyncio.subprocess.Process | None = None
        self.stopped = False

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it answers."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "slipway_builder",
                "serve",
                env={**clean, **self._environment},
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(_START_SECONDS), httpx.AsyncClient(timeout=5) as client:
            while not await self._answers(client):
                assert self._process.returncode is None, self.log.read_text()[-4000:]
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGSTOP: it holds on to everything that it has, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped = True

    async def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.stopped = False

    async def end(self) -> None:
        """End it in order."""
        if self._process is None or self._process.returncode is not None:
            return
        if self.stopped:
            await self.go_on()
        self._process.terminate()
        try:
            async with asyncio.timeout(25):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False
