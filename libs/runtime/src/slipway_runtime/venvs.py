"""A Python environment for each attempt of the process runtime, with a spare one made ahead."""

import asyncio
import contextlib
import shutil
import sys
import uuid
from pathlib import Path

from slipway_runtime.errors import RuntimeUnavailable

_CREATE_SECONDS = 180.0


class VenvPool:
    """Hands out fresh virtual environments below one directory. They are never moved: scripts name their path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spare: asyncio.Task[Path] | None = None
        self._given: dict[str, Path] = {}

    async def take(self, attempt_id: str) -> Path:
        """The attempt's environment; raises `RuntimeUnavailable` when none can be made."""
        if attempt_id not in self._given:
            spare, self._spare = self._spare, None
            self._given[attempt_id] = await (spare or self._create())
        self.prepare_spare()
        return self._given[attempt_id]

    def prepare_spare(self) -> None:
        """Begin to make the next one."""
        if self._spare is None:
            self._spare = asyncio.create_task(self._create())

    async def release(self, attempt_id: str) -> None:
        """Delete the attempt's environment."""
        path = self._given.pop(attempt_id, None)
        if path is not None:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def aclose(self) -> None:
        """Delete the spare one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            # Waited for, not cancelled: the installer may have children of its own.
            with contextlib.suppress(RuntimeUnavailable):
                path = await spare
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def _create(self) -> Path:
        path = self._directory / uuid.uuid4().hex[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        uv = Path(sys.executable).parent / "uv"
        commands = [[sys.executable, "-m", "venv", str(path)]]
        if uv.exists():
            base = getattr(sys, "_base_executable", sys.executable)
            commands.insert(0, [str(uv), "venv", "--quiet", "--seed", "--no-project", "--python", base, str(path)])
        problem = ""
        for command in commands:
            problem = await _run(command)
            if not problem:
                return path
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        raise RuntimeUnavailable(f"no Python environment could be made for the attempt: {problem}")


async def _run(command: list[str]) -> str:
    """Run it; the error in words, or nothing."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CREATE_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError:
        errors = b"it took too long"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return "" if process.returncode == 0 else errors.decode(errors="replace").strip() or f"{command[0]} failed"
