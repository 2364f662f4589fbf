"""A child process that cannot outlive this one."""

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_NOBODY = 65534


@dataclass(frozen=True)
class Account:
    """An account of this machine that may do less than this process."""

    uid: int
    gid: int


def lesser_account() -> Account | None:
    """The account for a program that serves strangers, where this process is root; None where it is not."""
    if os.geteuid() != 0:
        return None
    for name in ("haproxy", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    return Account(_NOBODY, _NOBODY)


async def start_child(
    command: Sequence[str], *, directory: Path, keep: Sequence[int], account: Account | None
) -> asyncio.subprocess.Process:
    """Start a program that the kernel kills when this process ends, however it ends.

    `keep` are file descriptors that it inherits; what it says goes to this process's standard error. It runs under
    `account` from its first instruction on: a program that gave up its rights later would outlive this process.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=tuple(keep),
        preexec_fn=_as_child(account),
    )


def _as_child(account: Account | None) -> Callable[[], None]:
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def prepare() -> None:
        if account is not None:  # uvloop knows no `user` of its own
            os.setgroups(())
            os.setgid(account.gid)
            os.setuid(account.uid)
        # After that: a change of the account takes the wish back.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
