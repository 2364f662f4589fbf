"""A Python environment for each attempt of the process runtime, with a spare one made ahead."""

import asyncio
import contextlib
import shutil
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from slipway_runtime.errors import RuntimeUnavailable

_CREATE_SECONDS = 180.0
_LINK_PREFIX = "attempt-"


class VenvPool:
    """Hands out fresh virtual environments below one directory. They are never moved: scripts name their path.

    A link per attempt says whose an environment is, also to an agent that starts anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._spare: asyncio.Task[Path] | None = None

    async def take(self, attempt_id: str) -> Path:
        """The attempt's environment; raises `RuntimeUnavailable` when none can be made."""
        link = self._link(attempt_id)
        if not link.is_symlink():
            spare, self._spare = self._spare, None
            path = await (spare or self._create())
            link.symlink_to(path.name)
        self.prepare_spare()
        return link.parent / link.readlink()

    async def sweep(self) -> None:
        """Delete what a killed agent has left behind: environments that no attempt was given."""
        await asyncio.to_thread(self._sweep)

    def prepare_spare(self) -> None:
        """Begin to make the next one."""
        if self._spare is None:
            self._spare = asyncio.create_task(self._create())

    async def release(self, attempt_id: str) -> None:
        """Delete the attempt's environment."""
        link = self._link(attempt_id)
        if link.is_symlink():
            await asyncio.to_thread(shutil.rmtree, link.parent / link.readlink(), ignore_errors=True)
            link.unlink()

    async def aclose(self) -> None:
        """Delete the spare one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            # Waited for, not cancelled: the installer may have children of its own.
            with contextlib.suppress(RuntimeUnavailable):
                path = await spare
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def _link(self, attempt_id: str) -> Path:
        return self._directory / f"{_LINK_PREFIX}{attempt_id}"

    def _sweep(self) -> None:
        if not self._directory.is_dir():
            return
        given = {link.readlink().name for link in self._directory.glob(f"{_LINK_PREFIX}*")}
        for path in self._directory.iterdir():
            if not path.is_symlink() and path.name not in given:
                shutil.rmtree(path, ignore_errors=True)

    async def _create(self) -> Path:
        path = self._directory / uuid.uuid4().hex[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        problem = ""
        for commands in _ways(path):
            for command in commands:
                if problem := await _run(command):
                    break
            if not problem:
                return path
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        raise RuntimeUnavailable(f"no Python environment could be made for the attempt: {problem}")


def _ways(path: Path) -> Iterator[list[list[str]]]:
    """Commands that make an environment with pip, the fastest way first; none asks the network."""
    uv = Path(sys.executable).parent / "uv"
    folders = _wheel_folders()
    if uv.exists() and folders:
        base = getattr(sys, "_base_executable", sys.executable)
        quiet = ["--quiet", "--offline"]
        wheels = sorted({wheel.name.partition("-")[0] for folder in folders for wheel in folder.glob("*.whl")})
        found = [word for folder in folders for word in ("--find-links", str(folder))]
        yield [
            [str(uv), "venv", *quiet, "--no-project", "--python", base, str(path)],
            [str(uv), "pip", "install", *quiet, "--no-index", *found, "--python", str(path), *wheels],
        ]
    yield [[sys.executable, "-m", "venv", str(path)]]


def _wheel_folders() -> list[Path]:
    """Where Python has the wheels of pip; Debian keeps them apart."""
    spec, debians = find_spec("ensurepip"), sysconfig.get_config_var("WHEEL_PKG_DIR")
    places = [Path(spec.origin).with_name("_bundled")] if spec is not None and spec.origin else []
    places += [Path(debians)] if debians else []
    return [place for place in places if any(place.glob("pip-*.whl"))]


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
