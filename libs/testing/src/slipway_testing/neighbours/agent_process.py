"""The worker's agent as a process of its own, which tests may kill."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from slipway_worker.shim.client import ZygoteClient


class AgentProcess:
    """Runs `python -m slipway_worker serve` on one home; can be killed and started again."""

    def __init__(self, home: Path, server_url: str, group_token: str, runtime: str, **settings: str) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        token_file = home.parent / "group-token"
        token_file.write_text(group_token)
        values = {
            "server_url": server_url,
            "group_token_file": str(token_file),
            "home": str(home),
            "runtime": runtime,
            **settings,
        }
        self._environment = {
            **os.environ,
            **{f"SLIPWAY_WORKER__{name.upper()}": value for name, value in values.items()},
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the agent; its log goes to `<home>/../agent.log`."""
        with (self.home.parent / "agent.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "slipway_worker", "serve", env=self._environment, stdout=log, stderr=log
            )

    @property
    def process_id(self) -> int:
        """Process id of the running agent."""
        if self._process is None:
            raise RuntimeError("the agent does not run")
        return self._process.pid

    async def kill(self) -> None:
        """`kill -9`."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """A clean stop; the exit code."""
        return await self._end(signal.SIGTERM)

    async def close(self) -> None:
        """End the agent and its zygote."""
        if self._process is not None:
            await self.terminate()
        await ZygoteClient(self.home / "zygote.sock").exit()

    def log(self) -> str:
        """What the agents of this home have logged."""
        return (self.home.parent / "agent.log").read_text()

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("the agent does not run")
        process.send_signal(number)
        async with asyncio.timeout(20):
            return await process.wait()
