"""`slipway-router` as a process of its own, against a builder of the tests."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import psutil

from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.ports import unused_port
from slipway_testing.wire import Wire, WireAnswer

_READY_SECONDS = 30.0


class RouterProcess:
    """One router. `port` serves predictions, `health_port` health and metrics."""

    def __init__(self, builder: RoutingNeighbour, builder_url: str, home: Path, engine: str, **extra: str) -> None:
        self.router_id = f"{engine}-{home.name}"
        self.port, self.health_port = unused_port(), unused_port()
        self.log = home / "router.log"
        self.state_dir = home / "state"
        self._process: asyncio.subprocess.Process | None = None
        token_file = home / "token"
        token_file.write_text(builder.token)
        settings = {
            "builder_url": builder_url,
            "token_file": str(token_file),
            "target_id": str(builder.target_id),
            "router_id": self.router_id,
            "state_dir": str(self.state_dir),
            "engine": engine,
            "port": str(self.port),
            "health_port": str(self.health_port),
            **extra,
        }
        self._environment = {f"SLIPWAY_ROUTER__{name.upper()}": value for name, value in settings.items()}

    @property
    def pid(self) -> int:
        """The control process."""
        assert self._process is not None
        return self._process.pid

    @property
    def engine_pids(self) -> list[int]:
        """Processes that it has started."""
        return [one.pid for one in psutil.Process(self.pid).children(recursive=True)]

    def memory_bytes(self) -> int:
        """Proportional set size of the router and what it has started."""
        root = psutil.Process(self.pid)
        return sum(int(one.memory_full_info().pss) for one in (root, *root.children(recursive=True)))

    async def start(self) -> None:
        """Start without waiting for anything."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "slipway_builder.router",
                env={**_clean_environment(), **self._environment},
                stdout=log,
                stderr=log,
            )

    async def until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until `/readyz` agrees."""
        async with asyncio.timeout(seconds):
            while (said := await self.health("/readyz")) is None or said[0] != 200:
                await asyncio.sleep(0.02)

    async def health(self, path: str) -> tuple[int, str] | None:
        """Status and text of a path of the health port; None while it does not listen."""
        try:
            async with Wire(self.health_port) as wire:
                answer = await wire.get(path)
        except (OSError, asyncio.IncompleteReadError):
            return None
        return answer.status, answer.body.decode()

    async def get(self, path: str, *headers: str) -> WireAnswer:
        """One request on a new connection."""
        async with Wire(self.port) as wire:
            return await wire.get(path, "Connection: close", *headers)

    async def signal(self, number: Literal[signal.Signals.SIGTERM, signal.Signals.SIGKILL]) -> None:
        """Send a signal and wait for the end of the control process."""
        assert self._process is not None
        self._process.send_signal(number)
        await asyncio.wait_for(self._process.wait(), 15)

    async def stop(self) -> None:
        """End it, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            await self.signal(signal.SIGTERM)


@asynccontextmanager
async def running_router(
    builder: RoutingNeighbour, builder_url: str, home: Path, engine: str, **extra: str
) -> AsyncIterator[RouterProcess]:
    """A router that is ready, ended afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    router = RouterProcess(builder, builder_url, home, engine, **extra)
    await router.start()
    try:
        await router.until_ready()
        yield router
    finally:
        await router.stop()


def _clean_environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
