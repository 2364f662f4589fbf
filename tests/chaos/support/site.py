"""The platform under attack: its processes, its servers, its rows."""

import asyncio
import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from signal import Signals
from typing import Any

import asyncpg
import httpx
import redis.asyncio

from slipway_runtime.layout import volatile_root
from tests.chaos.support.plan import SERVERS, chosen_runtime
from tests.e2e.support.platform import Platform

BACK_SECONDS = 60.0
_POLL_SECONDS = 0.05
_ASK_SECONDS = 3.0


@dataclass(frozen=True)
class Site:
    """Looks at a platform from outside, as an operator on its machine does."""

    platform: Platform

    @property
    def worker_home(self) -> Path:
        """Home of the platform's own worker."""
        return self.platform.home / "worker"

    def settings(self, service: str) -> dict[str, str]:
        """A service's settings as environment variables."""
        found: dict[str, str] = json.loads((self.platform.home / "environments" / f"{service}.json").read_text())
        return found

    def processes(self) -> dict[str, int | None]:
        """processes.json."""
        found: dict[str, int | None] = json.loads((self.platform.home / "processes.json").read_text())
        return found

    @cached_property
    def _redis_url(self) -> str:
        return self.settings("gateway")["SLIPWAY_GATEWAY__REDIS__URL"]

    def database_url(self, service: str) -> str:
        """URL with the service's own role."""
        return self.settings(service)[f"SLIPWAY_{service.upper()}__DATABASE__URL"]

    async def rows(self, service: str, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a service's schema."""
        connection = await asyncpg.connect(
            self.database_url(service), timeout=10, server_settings={"search_path": service}
        )
        try:
            return [dict(row) for row in await connection.fetch(query, *values, timeout=60)]
        finally:
            await connection.close()

    async def redis_client(self) -> redis.asyncio.Redis:
        """A client of the platform's Valkey."""
        return redis.asyncio.Redis.from_url(self._redis_url)

    def send(self, victim: str, number: Signals) -> int | None:
        """Send a signal to a part of the platform; gives its process id, None when there is none at the moment."""
        process_id = self.processes().get(victim)
        if process_id is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(process_id, number)
            return process_id
        return None

    async def wait_back(self, victim: str, former: int | None) -> float:
        """Wait until a part answers again, with another process id when `former` was killed; gives the time."""
        deadline = time.time() + BACK_SECONDS
        while not await self._answers(victim, former):
            if time.time() > deadline:
                raise AssertionError(
                    f"{victim} does not answer {BACK_SECONDS:g} s after it was hit: {self.processes()}\n"
                    f"{self.platform.output[-3000:]}\n{self.platform.service_logs()}"
                )
            await asyncio.sleep(_POLL_SECONDS)
        return time.time()

    async def _answers(self, victim: str, former: int | None) -> bool:
        if victim == "zygote":
            return True  # it is started when a run needs it
        if self.processes().get(victim) in (None, former):
            return False
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                if victim in SERVERS:
                    return await self._server_answers(victim)
                async with httpx.AsyncClient(timeout=_ASK_SECONDS) as client:
                    return (await client.get(self.readiness_url(victim))).status_code == 200
        except (OSError, TimeoutError, httpx.HTTPError, asyncpg.PostgresError, redis.exceptions.RedisError):
            return False

    def readiness_url(self, service: str) -> str:
        """Where a service tells whether it is ready."""
        port = self.settings(service)[f"SLIPWAY_{service.upper()}__HTTP__INTERNAL_PORT"]
        return f"http://127.0.0.1:{port}/readyz"

    async def _server_answers(self, server: str) -> bool:
        if server == "postgres":
            await self.rows("scheduler", "SELECT 1")
            return True
        client = await self.redis_client()
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()

    def shims(self) -> dict[str, tuple[int, int]]:
        """Process id and start time of the shim of each attempt that runs here, by attempt id."""
        found = {}
        for file in (self.worker_home / "attempts").glob("*/shim.json"):
            with suppress(OSError, ValueError):
                identity = json.loads(file.read_bytes())
                if not (file.parent / "exit.json").exists():
                    found[file.parent.name] = (identity["pid"], identity["start_ticks"])
        return found

    def leftovers(self, homes: tuple[Path, ...] = ()) -> list[str]:
        """What is left of runs on this machine: directories, environments, control groups, processes."""
        left: list[str] = []
        for home in homes or (self.worker_home,):
            attempts = [path.name for path in (home / "attempts").glob("*")]
            left += [f"attempt directory {name}" for name in attempts]
            left += [f"environment {link.name}" for link in (home / "venvs").glob("attempt-*")]
            spares = len([path for path in (home / "venvs").glob("*") if not path.is_symlink()])
            left += [f"{spares} spare environments"] if spares > 1 else []
            left += _processes_naming(str(home / "attempts"))
        return left


def control_groups_of(attempts: list[str]) -> list[str]:
    """Control groups of these attempts that are still there."""
    wanted = {f"slipway-{attempt}" for attempt in attempts}
    return [str(path) for path in Path("/sys/fs/cgroup").glob("**/slipway-*") if path.name in wanted]


def containers_of(attempts: list[str]) -> list[str]:
    """Containers of these attempts that are still there, where Docker is used."""
    if chosen_runtime() != "docker":
        return []
    command = ["docker", "ps", "--all", "--no-trunc", "--format", "{{.Names}}"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    return sorted({f"slipway-{attempt}" for attempt in attempts} & set(listed))


def memory_of(home: Path, attempts: list[str]) -> list[str]:
    """Volatile directories of these attempts that are still there."""
    return [str(volatile_root(home) / one) for one in attempts if (volatile_root(home) / one).exists()]


def _processes_naming(text: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command:
                found.append(f"process {file.parent.name}: {command[:200]}")
    return found
