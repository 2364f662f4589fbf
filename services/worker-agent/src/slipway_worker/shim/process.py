"""Runs an attempt as a process below the shim."""

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from slipway_runtime.layout import ProcessSpec
from slipway_worker.shim.reactor import Reactor

_PR_SET_CHILD_SUBREAPER: Final = 36
_KILL_ROUNDS: Final = 200
_KILL_PAUSE: Final = 0.01

Ended = Callable[[int | None, int | None, bool, str | None], None]
"""Called once with exit code, signal, whether memory ran out, and an error in words."""


class ProcessRun:
    """A process and all its descendants. Orphans come back to the shim, so none gets away."""

    def __init__(self, reactor: Reactor, spec: ProcessSpec, pipes: Path, ended: Ended) -> None:
        self._reactor = reactor
        self._spec = spec
        self._pipes = pipes
        self._ended = ended
        self._pid = 0

    def start(self) -> None:
        """Start it. What cannot be started ends at once, with the reason as error."""
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._reactor.watch_children(self._child_ended)
        # Opened anew: the shim's own descriptors do not block, and a program must not inherit that.
        outputs = [os.open(self._pipes / name, os.O_RDWR | os.O_CLOEXEC) for name in ("stdout", "stderr")]
        try:
            process = subprocess.Popen(
                self._spec.argv,
                env=self._spec.env,
                cwd=self._spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                start_new_session=True,
                preexec_fn=self._enter_limits,
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self._ended(None, None, False, f"{self._spec.argv[0]} could not be started: {error}")
            return
        finally:
            for descriptor in outputs:
                os.close(descriptor)
        self._pid = process.pid
        # Reaped by the reactor, never by the Popen object.
        process.returncode = 0

    def signal(self, number: int) -> None:
        """Send a signal to every process of the attempt but the sandbox's own."""
        for pid in self._members():
            if not self._belongs_to_sandbox(pid):
                _kill(pid, number)

    def kill(self) -> None:
        """End everything now."""
        for pid in self._members():
            _kill(pid, signal.SIGKILL)

    def _enter_limits(self) -> None:
        for directory in self._spec.cgroups:
            Path(directory, "cgroup.procs").write_text("0")
        for name, value in self._spec.rlimits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        if self._spec.cpus is not None:
            os.sched_setaffinity(0, self._spec.cpus)

    def _child_ended(self, pid: int, status: int) -> None:
        if pid != self._pid:
            return
        self._pid = 0
        self._kill_leftovers()
        code = os.waitstatus_to_exitcode(status)
        number = -code if code < 0 else None
        self._ended(128 - code if code < 0 else code, number, self._ran_out_of_memory(), None)

    def _kill_leftovers(self) -> None:
        for _round in range(_KILL_ROUNDS):
            members = list(self._members())
            if not members:
                return
            for pid in members:
                _kill(pid, signal.SIGKILL)
            _reap_all()
            if any(self._members()):
                signal.sigtimedwait([signal.SIGCHLD], _KILL_PAUSE)
                _reap_all()

    def _members(self) -> Iterator[int]:
        """Descendants of the shim, parents before children."""
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                parent = _parent_of(int(name))
                if parent is not None:
                    children.setdefault(parent, []).append(int(name))
        seen = set()
        waiting = [os.getpid()]
        while waiting:
            for pid in children.get(waiting.pop(), []):
                if pid not in seen:
                    seen.add(pid)
                    waiting.append(pid)
                    yield pid

    def _belongs_to_sandbox(self, pid: int) -> bool:
        if not self._spec.sandboxed:
            return False
        if pid == self._pid:
            return True
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        for line in status.splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return len(numbers) > 1 and numbers[-1] == "1"
        return False

    def _ran_out_of_memory(self) -> bool:
        for directory in self._spec.cgroups:
            for name in ("memory.oom_control", "memory.events"):
                try:
                    text = Path(directory, name).read_text()
                except OSError:
                    continue
                for line in text.splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill" and int(value) > 0:
                        return True
        return False


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _reap_all() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat[stat.rindex(")") + 2 :].split(maxsplit=2)[1])
