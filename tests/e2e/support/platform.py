"""The platform as operators run it: `slipway up` as a subprocess with a home of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway_testing.ports import unused_port

READY_SECONDS = 240.0
STOP_SECONDS = 90.0
COMMAND_SECONDS = 180.0
SLOTS = 4
"""Attempts that the worker takes at a time."""
SLIPWAY = Path(sys.executable).with_name("slipway")


@dataclass
class Platform:
    """One running installation."""

    runtime: str
    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="slipway-e2e-")))
    port: int = field(default_factory=unused_port)
    inference_port: int = field(default_factory=unused_port)
    repositories: Path | None = None
    processes: str = "split"
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of `slipway up`, such as settings of its services."""
    options: tuple[str, ...] = ()
    """More options of `slipway up`."""
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """The origin, as credentials.json says it."""
        return str(self.credentials["url"])

    @property
    def credentials(self) -> dict[str, Any]:
        """url, username, password and token of the first administrator."""
        found: dict[str, Any] = json.loads((self.home / "credentials.json").read_text())
        return found

    @property
    def output(self) -> str:
        """What `slipway up` has printed so far."""
        return (self.home / "up.out").read_text(errors="replace")

    def start(self) -> None:
        """Start and wait for the ready line. Raises RuntimeError with what was printed."""
        local = ["--allow-local-repositories", str(self.repositories)] if self.repositories else []
        with (self.home / "up.out").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(str(SLIPWAY), "up", "--home", str(self.home), "--port", str(self.port)),
                    *("--inference-port", str(self.inference_port)),
                    *(
                        "--runtime",
                        self.runtime,
                        "--processes",
                        self.processes,
                        "--slots",
                        str(SLOTS),
                        "--stop-runs",
                        *local,
                    ),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_clean_environment(), **self._notices(), **self.environment},
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while "Slipway is ready at http://" not in self.output:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"slipway up is not ready:\n{self.output[-4000:]}\n{self.service_logs()}")
            time.sleep(0.1)

    @property
    def preemption_notice(self) -> Path:
        """While this file exists, the local worker has been told that its machine is taken back."""
        return self.home / "preempt"

    def _notices(self) -> dict[str, str]:
        settings = {"provider": "openstack", "endpoint": f"file://{self.preemption_notice}", "poll_seconds": "0.2"}
        return {f"SLIPWAY_WORKER__PREEMPTION__{name.upper()}": value for name, value in settings.items()}

    def stop(self) -> int | None:
        """End the platform as Ctrl-C does. Gives the exit code, None when it had to be killed."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
            return None

    def delete(self) -> None:
        """Delete the home, and what lies outside of it on behalf of the home."""
        self.slipway("reset", "--yes", check=False)
        if (self.home / "up.out").exists():
            shutil.rmtree(self.home, ignore_errors=True)

    def processes_left(self) -> list[str]:
        """Command lines of processes that still name this home."""
        left = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.home) in command:
                    left.append(command)
        return left

    def slipway(self, *args: str, check: bool = True) -> str:
        """Run another `slipway` command on this home and give what it printed."""
        done = subprocess.run(
            [str(SLIPWAY), *args, "--home", str(self.home)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env=_clean_environment(),
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"slipway {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def add_user(self, name: str, password: str) -> None:
        """Make a user who logs in with a password."""
        file = self.home / f"password-of-{name}"
        file.write_text(f"{password}\n")
        self.slipway("user", "add", name, "--password-file", str(file))

    def process_id(self, service: str) -> int:
        """Process id of a service, from processes.json."""
        listed = json.loads((self.home / "processes.json").read_text())
        return int(listed[service])

    def kill(self, service: str) -> int:
        """kill -9 a service; gives the process id that is no more."""
        process_id = self.process_id(service)
        os.kill(process_id, signal.SIGKILL)
        return process_id

    def wait_restarted(self, service: str, former: int, timeout: float = 30.0) -> None:
        """Wait until a killed service has a new process."""
        deadline = time.monotonic() + timeout
        while True:
            listed = json.loads((self.home / "processes.json").read_text())
            if listed[service] not in (None, former):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{service} was not started again within {timeout:g} s")
            time.sleep(0.1)

    def service_logs(self, lines: int = 40) -> str:
        """The last lines of every service's log, for failures."""
        parts = []
        for file in sorted((self.home / "logs").glob("*.log")):
            tail = file.read_text(errors="replace").splitlines()[-lines:]
            if tail:
                parts.append("\n".join([f"--- {file.name}", *tail]))
        return "\n".join(parts)

    def memory_bytes(self, service: str) -> int:
        """Resident memory of a service's process."""
        for line in Path(f"/proc/{self.process_id(service)}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{service} does not tell its memory")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "VALOHAI_", "VH_"))}
