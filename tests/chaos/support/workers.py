"""Workers of one environment: the platform's own, and a second agent beside it; frozen, killed, looked into."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any

from slipway_runtime.layout import process_start_ticks
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.ports import unused_port
from tests.chaos.support.site import Site


@dataclass(frozen=True)
class Machine:
    """A worker's home with the process id of its agent."""

    home: Path
    agent_pid: int

    def attempts(self) -> list[str]:
        """Attempts that have a directory here."""
        return sorted(path.name for path in (self.home / "attempts").glob("*"))

    def record(self, attempt: str) -> dict[str, Any]:
        """What the agent keeps of an attempt, its token included."""
        found: dict[str, Any] = json.loads((self.home / "attempts" / attempt / "attempt.json").read_bytes())
        return found

    def token(self, attempt: str) -> str:
        """The attempt's fencing token."""
        return str(self.record(attempt)["assignment"]["token"])

    @property
    def worker_token(self) -> str:
        """The token with which the agent syncs."""
        return str(json.loads((self.home / "identity.json").read_bytes())["worker_token"])

    def run_ended(self, attempt: str) -> bool:
        """Whether the run of an attempt is over."""
        return (self.home / "attempts" / attempt / "exit.json").exists()

    def shim(self, attempt: str) -> tuple[int, int]:
        """Process id and start time of an attempt's shim."""
        found = json.loads((self.home / "attempts" / attempt / "shim.json").read_bytes())
        return found["pid"], found["start_ticks"]

    def freeze(self) -> None:
        """SIGSTOP the agent; its runs go on."""
        os.kill(self.agent_pid, Signals.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT the agent."""
        os.kill(self.agent_pid, Signals.SIGCONT)

    def break_down(self) -> None:
        """What a power cut does to a machine: agent, zygote, shims and runs are gone at once."""
        with suppress(OSError, ValueError):
            os.kill(int((self.home / "zygote.pid").read_text()), SIGKILL)
        _kill(self.agent_pid)
        for attempt in self.attempts():
            with suppress(OSError, ValueError):
                for process_id in (*_descendants(self.shim(attempt)[0]), self.shim(attempt)[0]):
                    _kill(process_id)


def alive(shim: tuple[int, int]) -> bool:
    """Whether that very process still runs."""
    return process_start_ticks(shim[0]) == shim[1]


def own_worker(site: Site) -> Machine:
    """The worker that the platform runs."""
    process_id = site.processes()["worker"]
    assert process_id is not None
    return Machine(site.worker_home, process_id)


def second_agent(site: Site, folder: Path, slots: int) -> AgentProcess:
    """Another agent for the same environment, not started yet; its home lies in `folder`."""
    settings = site.settings("worker")
    token = Path(settings["SLIPWAY_WORKER__GROUP_TOKEN_FILE"]).read_text()
    return AgentProcess(
        folder / "home",
        settings["SLIPWAY_WORKER__SERVER_URL"],
        token,
        "process",
        slots=str(slots),
        http__internal_port=str(unused_port()),
    )


def wait_until(what: str, found: Any, timeout: float = 60.0) -> Any:
    """Call `found` until it gives something true; fails with `what`."""
    deadline = time.monotonic() + timeout
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)
    return result


def _descendants(process_id: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            text = stat.read_text()
            parent = int(text[text.rindex(")") + 2 :].split(maxsplit=2)[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    waiting = [process_id]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            yield child


def _kill(process_id: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process_id, SIGKILL)
