"""What a storm does, decided by its seed alone: the executions, and the blows that fall meanwhile."""

import itertools
import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from signal import Signals
from typing import Any

CONTROL_PLANE = ("gateway", "scheduler", "logs", "builder")
SERVERS = ("postgres", "valkey")
MACHINE = ("worker", "zygote")
"""Parts of the worker: only when one of these was hit may an execution need another attempt."""

VICTIMS = (*CONTROL_PLANE, *SERVERS, *MACHINE)


@dataclass(frozen=True)
class Scale:
    """How large a storm is. `kills` counts SIGKILL only; stops and terminations come on top."""

    executions: int
    kills: int
    clients: int = 8
    unfinished: int = 24
    """How many executions are under way at a time: more than there are slots, so that something always waits."""


SCALES = {"": Scale(executions=40, kills=5), "ci": Scale(executions=200, kills=20), "full": Scale(2000, 200)}
"""By `SLIPWAY_CHAOS`: nothing in `make test`, `ci` in `.ci/run`, `full` in `make chaos`."""


def full_run() -> bool:
    """Whether `make chaos` runs: the long variants."""
    return os.environ.get("SLIPWAY_CHAOS") == "full"


def chosen_scale() -> Scale:
    """What `SLIPWAY_CHAOS` names; two variables choose anything else."""
    base = SCALES[os.environ.get("SLIPWAY_CHAOS", "")]
    return Scale(
        int(os.environ.get("SLIPWAY_CHAOS_EXECUTIONS", base.executions)),
        int(os.environ.get("SLIPWAY_CHAOS_KILLS", base.kills)),
    )


def chosen_runtime() -> str:
    """What runs the executions: `process`, or what `SLIPWAY_CHAOS_RUNTIME` says (`docker`)."""
    return os.environ.get("SLIPWAY_CHAOS_RUNTIME", "process")


def chosen_seed() -> int:
    """`SLIPWAY_CHAOS_SEED`, else a new one."""
    return int(os.environ.get("SLIPWAY_CHAOS_SEED") or secrets.randbelow(10**9))


@dataclass(frozen=True)
class Job:
    """An execution and what its parameters make it do."""

    number: int
    seed: int
    lines: int
    seconds: float
    outputs: int
    code: int
    stop_after: float | None
    """Seconds after its creation at which a client stops it."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the step."""
        return {
            "seed": self.seed,
            "lines": self.lines,
            "seconds": self.seconds,
            "outputs": self.outputs,
            "code": self.code,
        }

    @property
    def true_status(self) -> str:
        """How it ends unless it is stopped."""
        return "complete" if self.code == 0 else "error"


@dataclass(frozen=True)
class Blow:
    """A signal to one process of the platform."""

    victim: str
    signal: Signals
    hold: float
    """How long a stopped process stays stopped."""
    pause: float
    """Seconds until the next blow, from when the victim answers again (or from the blow, when `impatient`)."""
    impatient: bool
    """The next blow falls while this victim may still be away."""


def jobs(seed: int, scale: Scale) -> list[Job]:
    """The executions of a storm."""
    source = random.Random(f"jobs {seed}")
    return [_job(source, number) for number in range(scale.executions)]


def _job(source: random.Random, number: int) -> Job:
    lines = source.choices(
        [source.randint(1, 200), source.randint(200, 5000), source.randint(20_000, 50_000)], [70, 25, 5]
    )
    return Job(
        number=number,
        seed=source.randrange(1, 10**6),
        lines=lines[0],
        seconds=round(source.uniform(0, 2), 2),
        outputs=source.choice([0, 0, 1, 2, 3]),
        code=source.choices([0, 1, source.choice([2, 42, 137])], [70, 20, 10])[0],
        stop_after=round(source.uniform(0, 8), 2) if source.random() < 0.1 else None,
    )


def blows(seed: int, scale: Scale) -> list[Blow]:
    """The blows of a storm: every victim in turn, in an order of its own each time."""
    source = random.Random(f"blows {seed}")
    found: list[Blow] = []
    kills = 0
    for victim in _turns(source):
        if kills >= scale.kills:
            return found
        number = source.choices([Signals.SIGKILL, Signals.SIGSTOP, Signals.SIGTERM], [80, 13, 7])[0]
        kills += number is Signals.SIGKILL and victim != "zygote"  # which may be gone already, until it is needed
        found.append(
            Blow(
                victim,
                number,
                hold=round(source.uniform(0.5, 5), 2),
                pause=round(source.uniform(0.2, 3), 2),
                impatient=source.random() < 0.2,
            )
        )
    raise AssertionError("the turns never end")


def _turns(source: random.Random) -> Iterator[str]:
    for _ in itertools.count():
        yield from source.sample(VICTIMS, len(VICTIMS))
