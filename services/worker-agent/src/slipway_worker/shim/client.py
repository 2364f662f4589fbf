"""How the agent talks to the zygote and to shims."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from slipway_runtime.layout import AttemptLayout, ExitRecord, RunLimits, ShimIdentity, ShimSpec
from slipway_worker.shim.zygote import PROTOCOL

_CALL_SECONDS: Final = 5.0
_START_SECONDS: Final = 10.0


class ShimUnreachable(Exception):
    """Nobody answers on a shim's or the zygote's socket."""


async def call(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One request over a Unix socket; raises `ShimUnreachable`."""
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            # By descriptor, because the kernel takes no path beyond 108 bytes.
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise ShimUnreachable(f"no answer on {path}: {error}") from error
    if not line:
        raise ShimUnreachable(f"{path} closed the connection")
    answer: dict[str, Any] = json.loads(line)
    return answer


class ZygoteClient:
    """Starts shims through the zygote, and the zygote where none answers."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._lock = asyncio.Lock()

    async def ensure(self) -> int:
        """Have a zygote that speaks this release's protocol; its process id."""
        async with self._lock:
            with contextlib.suppress(ShimUnreachable):
                answer = await call(self._socket, {"op": "ping"})
                if answer.get("protocol") == PROTOCOL:
                    return int(answer["pid"])
                await call(self._socket, {"op": "exit"})
            return await self._spawn()

    async def start(self, layout: AttemptLayout, spec: ShimSpec) -> "ShimHandle":
        """Write the spec and start a shim for it. The zygote is started again if it has died."""
        spec.write(layout.spec_file)
        request = {"op": "start", "attempt": str(layout.root)}
        try:
            await call(self._socket, request)
        except ShimUnreachable:
            await self.ensure()
            await call(self._socket, request)
        return ShimHandle(layout)

    async def exit(self) -> None:
        """Ask the zygote to exit. Shims go on."""
        with contextlib.suppress(ShimUnreachable):
            await call(self._socket, {"op": "exit"})

    async def _spawn(self) -> int:
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        log = self._socket.with_suffix(".log")
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "slipway_worker.shim.zygote",
                str(self._socket),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(_START_SECONDS):
                # It puts itself into the background as soon as its socket listens.
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if code:
            raise ShimUnreachable(f"the zygote did not start; see {log}")
        return int((await call(self._socket, {"op": "ping"}))["pid"])


class ShimHandle:
    """One attempt's shim, also one that an earlier agent started."""

    def __init__(self, layout: AttemptLayout) -> None:
        self.layout = layout

    def exit_record(self) -> ExitRecord | None:
        """How the run ended; None while it goes on (or its shim was lost, see `alive`)."""
        return ExitRecord.read(self.layout.exit_file)

    def alive(self) -> bool:
        """Whether the shim runs. False without an exit record means that it was lost."""
        identity = ShimIdentity.read(self.layout.shim_file)
        return identity is not None and identity.alive()

    async def stop(self, reason: str = "stopped") -> None:
        """Climb the stop ladder; the second call kills."""
        await call(self.layout.socket, {"op": "stop", "reason": reason})

    async def kill(self) -> None:
        """End the run now."""
        await call(self.layout.socket, {"op": "kill"})

    async def status(self) -> dict[str, Any]:
        """What the shim knows about its run."""
        return await call(self.layout.socket, {"op": "status"})

    async def set_limits(self, limits: RunLimits) -> None:
        """Change the timers of a run."""
        await call(self.layout.socket, {"op": "limits", **limits.__dict__})

    async def wait(self, poll_seconds: float = 0.02) -> ExitRecord:
        """Wait for the exit record; raises `ShimUnreachable` when the shim was lost without one."""
        missing = 0
        while (record := self.exit_record()) is None:
            missing = 0 if self.alive() else missing + 1
            if missing * poll_seconds > _CALL_SECONDS:
                raise ShimUnreachable(f"the shim of {self.layout.root} ended without an exit record")
            await asyncio.sleep(poll_seconds)
        return record
