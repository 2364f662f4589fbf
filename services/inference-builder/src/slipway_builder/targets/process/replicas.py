"""One replica of the process target: a process group that outlives the builder, and what is known of it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import psutil

STATE_FILE = "state.json"
LOG_FILE = "output.log"
TIMES_FILE = "output.times"
"""When which part of the log came."""
_STOP_SECONDS = 10.0
_KILL_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_MAX_LOG_BYTES = 20 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A started process, as it is kept on disk: enough to find it again and to know that it is the same one."""

    pid: int
    started: float
    """Its start by the kernel's count, so that a reused process id is not taken for it."""
    port: int
    fingerprint: str
    """Of image, command and environment: equal ones need no new process."""
    generation: int

    @classmethod
    def read(cls, folder: Path) -> "ReplicaState | None":
        """The state in a replica's folder."""
        try:
            return cls(**json.loads((folder / STATE_FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Keep it, whole or not at all."""
        self._written(folder).replace(folder / STATE_FILE)

    def claim(self, folder: Path) -> bool:
        """Keep it if the folder has no other; False when another builder was quicker."""
        written = self._written(folder)
        try:
            os.link(written, folder / STATE_FILE)
        except FileExistsError:
            return False
        finally:
            written.unlink()
        return True

    def _written(self, folder: Path) -> Path:
        temporary = folder / f".{STATE_FILE}.{uuid4().hex}"
        temporary.write_text(json.dumps(asdict(self)))
        return temporary

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if same else None


def spawn(argv: Sequence[str], environment: Mapping[str, str], folder: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a replica in a session of its own, with its output appended to its log."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


async def end(state: ReplicaState) -> None:
    """SIGTERM to the group, SIGKILL after 10 s; returns when nothing of it is left."""
    if state.process() is None:
        return
    loop = asyncio.get_running_loop()
    until = loop.time() + _STOP_SECONDS
    _signal(state, signal.SIGTERM)
    while _exists(state.pid) and loop.time() < until + _KILL_SECONDS:
        if state.process() is None or loop.time() > until:
            _signal(state, signal.SIGKILL)
        await asyncio.sleep(_LOOK_SECONDS)


def strays(root: Path) -> dict[Path, list[int]]:
    """Groups of processes that write the logs of replicas below `root` and are in no state file, by their folders.

    A builder that is killed between the start of a process and the note of it leaves such a one.
    """
    found: dict[Path, list[int]] = {}
    root = root.resolve()
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            log = Path(str(Path(f"/proc/{pid}/fd/1").readlink()).removesuffix(" (deleted)"))
            if log.name == LOG_FILE and log.is_relative_to(root) and os.getpgid(pid) == pid:
                state = ReplicaState.read(log.parent)
                if state is None or state.pid != pid:
                    found.setdefault(log.parent, []).append(pid)
    return found


async def end_group(pid: int) -> None:
    """End a stray's group at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for _ in range(int(_KILL_SECONDS / _LOOK_SECONDS)):
        if not _exists(pid):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _signal(state: ReplicaState, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(state.pid, number)


def _exists(group: int) -> bool:
    """Whether anything of it runs. A leader that only waits to be reaped does not count."""
    for process in psutil.process_iter(["pid", "status"]):
        with contextlib.suppress(OSError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def answers(port: int) -> bool:
    """Whether somebody takes connections on the port."""
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def last_lines(folder: Path, count: int = 20) -> tuple[str, ...]:
    """The end of a replica's log."""
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[-count:])


def keep_log_small(folder: Path) -> None:
    """Begin the log anew when it is large: its writers append, so they go on at its begin."""
    with contextlib.suppress(OSError):
        if (folder / LOG_FILE).stat().st_size > _MAX_LOG_BYTES:
            (folder / TIMES_FILE).unlink(missing_ok=True)
            os.truncate(folder / LOG_FILE, 0)
