"""Reads an attempt's two named pipes into its spool."""

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from slipway_runtime.layout import STDERR, STDOUT
from slipway_worker.shim.reactor import Reactor, Timer
from slipway_worker.shim.spool import SpoolWriter

_READ_BYTES: Final = 64 * 1024
_PIPE_BYTES: Final = 1024 * 1024
_F_SETPIPE_SZ: Final = 1031
_SILENCE_SECONDS: Final = 1.0
_DISK_RETRY_SECONDS: Final = 1.0


class Pipe:
    """One stream. Opened read-write, so its end is never seen while writers come and go."""

    def __init__(self, stream: int, path: Path) -> None:
        self.stream = stream
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.total = 0
        self.inside_line = False
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


class PipeCopier:
    """Copies both pipes to the spool and notes when a stream falls silent in the middle of a line.

    `on_blocked` is told about once a second for how long output has been waiting for room on the disk.
    """

    def __init__(
        self,
        reactor: Reactor,
        directory: Path,
        spool: SpoolWriter,
        on_output: Callable[[], None],
        on_blocked: Callable[[float], None],
    ) -> None:
        self._reactor = reactor
        self._spool = spool
        self._on_output = on_output
        self._on_blocked = on_blocked
        self._silence: dict[int, Timer] = {}
        self._last_read: dict[int, float] = {}
        self._blocked_since = 0.0
        self.pipes = (Pipe(STDOUT, directory / "stdout"), Pipe(STDERR, directory / "stderr"))
        self._listen()

    def totals(self) -> dict[str, int]:
        """Bytes copied by stream."""
        return {"stdout": self.pipes[0].total, "stderr": self.pipes[1].total}

    def drain(self) -> None:
        """Copy what is left when nobody writes any more, waiting for room on the disk if need be."""
        for pipe in self.pipes:
            self._reactor.remove_reader(pipe.descriptor)
        for timer in self._silence.values():
            timer.cancel()
        for pipe in self.pipes:
            while True:
                self._wait_for_disk()
                if not self._copy(pipe):
                    break
        self._wait_for_disk()

    def _listen(self) -> None:
        for pipe in self.pipes:
            self._reactor.add_reader(pipe.descriptor, functools.partial(self._readable, pipe))

    def _readable(self, pipe: Pipe) -> None:
        if self._spool.is_blocked():
            return  # by the other pipe, in this very round
        if self._copy(pipe) and pipe.inside_line and pipe.stream not in self._silence:
            self._watch_silence(pipe, _SILENCE_SECONDS)
        if self._spool.is_blocked():
            self._hold()

    def _hold(self) -> None:
        """Read nothing until the spool has room."""
        self._blocked_since = time.monotonic()
        for pipe in self.pipes:
            self._reactor.remove_reader(pipe.descriptor)
        self._reactor.call_later(_DISK_RETRY_SECONDS, self._retry_disk)

    def _copy(self, pipe: Pipe) -> bool:
        try:
            data = os.read(pipe.descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        self._spool.write(pipe.stream, data)
        pipe.total += len(data)
        pipe.inside_line = not data.endswith(b"\n")
        self._last_read[pipe.stream] = time.monotonic()
        self._on_output()
        return True

    def _watch_silence(self, pipe: Pipe, delay: float) -> None:
        self._silence[pipe.stream] = self._reactor.call_later(delay, lambda: self._silence_due(pipe))

    def _silence_due(self, pipe: Pipe) -> None:
        del self._silence[pipe.stream]
        if not pipe.inside_line:
            return
        quiet = time.monotonic() - self._last_read[pipe.stream]
        if quiet < _SILENCE_SECONDS or self._spool.is_blocked():
            self._watch_silence(pipe, max(0.01, _SILENCE_SECONDS - quiet))
            return
        self._spool.write(pipe.stream, b"")
        pipe.inside_line = False
        if self._spool.is_blocked():
            self._hold()

    def _retry_disk(self) -> None:
        self._spool.retry()
        if self._spool.is_blocked():
            self._reactor.call_later(_DISK_RETRY_SECONDS, self._retry_disk)
            self._on_blocked(time.monotonic() - self._blocked_since)
        else:
            self._listen()

    def _wait_for_disk(self) -> None:
        while self._spool.is_blocked():
            self._spool.retry()
            if self._spool.is_blocked():
                time.sleep(_DISK_RETRY_SECONDS)
