"""A small pool of processes that read users' YAML, so that bad input costs neither our loop nor our memory."""

import asyncio
import json
import struct
import sys
from contextlib import suppress
from typing import Any

from slipway_gateway.code.domain import ConfigError

PROCESSES = 2
TIMEOUT_SECONDS = 15.0

YamlResult = tuple[list[Any] | None, ConfigError | None]


class YamlReader:
    """Reads, validates and lints YAML. Processes start at first use and are kept."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self._turns = asyncio.Semaphore(processes)
        self._idle: list[asyncio.subprocess.Process] = []

    async def read(self, content: bytes) -> YamlResult:
        """The config as a JSON list, or what is wrong with it. Never raises for what the content is."""
        async with self._turns:
            process = await self._ready()
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    answer = await _ask(process, content)
            except TimeoutError:
                await _kill(process)
                return None, ConfigError(f"Reading the YAML took longer than {TIMEOUT_SECONDS:g} s.")
            except (asyncio.IncompleteReadError, ConnectionError):
                await _kill(process)
                return None, ConfigError("The YAML could not be read: the reader ran out of memory.")
            except BaseException:
                await _kill(process)
                raise
            self._idle.append(process)
        error = answer.get("error")
        if error is not None:
            return None, ConfigError(error["message"], error["line"], error["hint"])
        return answer["config"], None

    async def _ready(self) -> asyncio.subprocess.Process:
        """A process that lives; one that was killed from outside while it waited is left out."""
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await _start()

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await _kill(self._idle.pop())


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "slipway_gateway.code.yaml_worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
    )


async def _ask(process: asyncio.subprocess.Process, content: bytes) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise ConnectionError("the process has no pipes")
    process.stdin.write(struct.pack(">I", len(content)) + content)
    await process.stdin.drain()
    (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
    answer: dict[str, Any] = json.loads(await process.stdout.readexactly(size))
    return answer


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
