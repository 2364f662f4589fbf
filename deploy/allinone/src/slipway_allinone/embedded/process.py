"""One server process: start, wait until ready, stop, and the last log lines when something fails."""

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from slipway_allinone.embedded.account import Account
from slipway_kit.logging import get_logger

_log = get_logger()

LOG_TAIL_LINES = 15
LOG_ROTATE_BYTES = 20 * 1024 * 1024
POLL_SECONDS = 0.02


class EmbeddedServerError(RuntimeError):
    """An embedded server could not be found, started or stopped; the message says what to do."""


class HomeLock:
    """Keeps two platforms from running the same server on one home; the kernel drops it when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; does nothing when it is held. Raises EmbeddedServerError when another process holds it."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise EmbeddedServerError(
                f"{self._path.parent} is in use by another running Slipway. Stop that one, or choose another --home."
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ServerProcess:
    """A server in its own session (Ctrl-C in the terminal does not reach it), logging to a file."""

    def __init__(self, name: str, log_file: Path) -> None:
        self._name = name
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while the server runs, else None."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def spawn(
        self, command: Sequence[str], *, cwd: Path, account: Account | None = None, env: Mapping[str, str]
    ) -> None:
        """Start the server, as `account` when one is given. Raises EmbeddedServerError when exec fails."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_ROTATE_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        descriptor = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as error:
            raise EmbeddedServerError(f"{self._name}: cannot run {command[0]}: {error}") from error
        finally:
            os.close(descriptor)

    async def wait_ended(self) -> int | None:
        """Wait until the server has ended; gives its exit code, None when none was started."""
        process = self._process
        if process is None or process.poll() is not None:
            return process.returncode if process else None
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return process.poll()

    async def wait_ready(self, ready: Callable[[], Awaitable[bool]], timeout: float) -> None:
        """Poll `ready` until it says yes. Raises EmbeddedServerError with the last log lines when it never does."""
        deadline = time.monotonic() + timeout
        while True:
            if self.pid is None:
                code = self._process.returncode if self._process else None
                raise EmbeddedServerError(f"{self._name} ended while starting (exit code {code}).{self.log_tail()}")
            if await ready():
                return
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"{self._name} was not ready after {timeout:.0f} s.{self.log_tail()}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, stop_signal: signal.Signals, timeout: float) -> None:
        """Ask with `stop_signal`, kill after `timeout` seconds. Does nothing when the server is not running."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(stop_signal)
            deadline = time.monotonic() + timeout
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                await asyncio.sleep(POLL_SECONDS)
        self._process = None

    def log_tail(self) -> str:
        """The last lines of the log, as a block to append to an error message."""
        try:
            lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            lines = []
        body = "\n".join(f"    {line}" for line in lines) or "    (the log is empty)"
        return f" Last lines of {self._log_file}:\n{body}"


async def end_orphan(
    name: str, pid: int, belongs: Callable[[psutil.Process], bool], stop_signal: signal.Signals, timeout: float
) -> None:
    """End a server that outlived the Slipway which started it (kill -9), so that it can be started afresh.

    `belongs` judges the live process with that id: a recycled id must not be touched.
    Raises EmbeddedServerError when it does not end.
    """
    try:
        process = psutil.Process(pid)
        if not belongs(process):
            return
        process.send_signal(stop_signal)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + timeout
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"A {name} of an earlier run (process {pid}) does not end. End it by hand: kill {pid}"
            )
        await asyncio.sleep(POLL_SECONDS)


async def end_children_of_killed_server(name: str, folder: Path, timeout: float) -> None:
    """Wait for processes that a killed server has left behind in its data folder; kill those that do not leave.

    A Postgres backend notices the death of its postmaster at its next wait. Until all are gone the shared memory is in
    use and no new server may touch the data.
    """
    deadline = time.monotonic() + timeout
    while left := await asyncio.to_thread(_processes_in, folder):
        for process in left:
            if time.monotonic() > deadline:
                _log.warning("server_child_killed", server=name, pid=process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        await asyncio.sleep(POLL_SECONDS)


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working directory is `folder`, as far as we may look."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, psutil.NoSuchProcess):
                if (entry / "cwd").readlink() == folder:
                    found.append(psutil.Process(int(entry.name)))
    return found
