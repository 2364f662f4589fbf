"""A Docker engine of a test's own."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_START_SECONDS = 60.0
_LOAD_SECONDS = 300.0


@asynccontextmanager
async def remapping_engine(image: str) -> AsyncIterator[Path]:
    """An engine that remaps users (`userns-remap`) and has this image of the machine's own engine; its socket.

    It has no network. Needs root and the machine's engine. Raises RuntimeError with the engine's last words.
    """
    folder = tempfile.TemporaryDirectory(prefix="slipway-engine-", ignore_cleanup_errors=True)
    home = Path(folder.name)
    home.chmod(0o711)  # the remapped users reach their files below it
    socket, log = home / "docker.sock", home / "dockerd.log"
    places = ("--host", f"unix://{socket}", "--data-root", home / "data", "--exec-root", home / "exec")
    apart = ("--pidfile", home / "dockerd.pid", "--bridge", "none", "--iptables=false", "--userns-remap", "default")
    with log.open("wb") as words:
        # In a network of its own: an engine without a bridge removes the machine's docker0.
        command = ("unshare", "--net", "dockerd", *map(str, places), *map(str, apart))
        process = await asyncio.create_subprocess_exec(*command, stdout=words, stderr=words)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _answers(socket):
                if process.returncode is not None:
                    raise RuntimeError(f"The engine ended: {log.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(0.2)
        await asyncio.to_thread(_load, image, socket)
        yield socket
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await asyncio.to_thread(folder.cleanup)


async def _answers(socket: Path) -> bool:
    command = ("docker", "--host", f"unix://{socket}", "version")
    asked = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await asked.wait() == 0


def _load(image: str, socket: Path) -> None:
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            ["docker", "--host", f"unix://{socket}", "load"],
            stdin=saved.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=_LOAD_SECONDS,
        )
