"""One process per service (`--processes split`): started, watched, started again, stopped in reverse."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait

_log = get_logger()

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 3.0
_CALM_SECONDS = 10.0
_STOP_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """A service's module and its environment variables."""

    name: str
    module: str
    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ("serve",)


@dataclass
class ChildProcess:
    """Keeps one program running."""

    program: Program
    log_file: Path
    _process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep_running(self) -> None:
        """Start the program, and again whenever it ends, with growing pauses, until cancelled."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = loop.time()
            code = await self._run_once()
            if loop.time() - began > _CALM_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            _log.warning(
                "service_process_ended", process=self.program.name, code=code, log=str(self.log_file), again_in=pause
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _run_once(self) -> int:
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.program.module,
                *self.program.arguments,
                env={**os.environ, **self.program.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the platform, which then stops its services in order
                preexec_fn=partial(_end_with_the_platform, ctypes.CDLL(None)),
            )
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not end in 20 s."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            _log.warning("service_process_killed", process=self.program.name)
            process.kill()
            await process.wait()


def _end_with_the_platform(libc: ctypes.CDLL) -> None:
    """A platform that was killed must not leave services behind: the next one starts its own."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@asynccontextmanager
async def running(programs: Sequence[Program], log_folder: Path) -> AsyncIterator[dict[str, ChildProcess]]:
    """Run the programs inside the block."""
    children = {program.name: ChildProcess(program, log_folder / f"{program.name}.log") for program in programs}
    keepers = {
        name: asyncio.create_task(child.keep_running(), name=f"process:{name}") for name, child in children.items()
    }
    try:
        yield children
    finally:
        for name in reversed(list(children)):
            keepers[name].cancel()
            await children[name].stop()
            await cancel_and_wait(keepers[name])
