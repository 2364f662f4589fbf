"""A child process that cannot outlive this one."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


async def start_child(command: Sequence[str], *, directory: Path, keep: Sequence[int]) -> asyncio.subprocess.Process:
    """Start a program that the kernel kills when this process ends, however it ends.

    `keep` are file descriptors that it inherits; what it says goes to this process's standard error.
    """
    return await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdin=asyncio.subprocess.DEVNULL, pass_fds=tuple(keep), preexec_fn=_die_with_parent()
    )


def _die_with_parent() -> Callable[[], None]:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
