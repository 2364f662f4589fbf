"""Interleaved rounds, ratios, noise check and the facts of the machine: the rules every benchmark here follows.

Each round measures ours and the peer one after the other in random order, so that a slow minute of the machine hits
both. What counts is the median of the per-round ratios; all rounds are kept.
"""

import asyncio
import os
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

NOISY_SPREAD = 1.25
"""The spin loop's slowest round over its fastest; above it the machine was not quiet."""
NOISY_STEAL = 0.05
CALM_LOAD = 1.5
_SPIN = 1_000_000
_PAUSE_SECONDS = 1.0
_FSYNCS = 50

Measure = Callable[[], Awaitable[float]]


class SkippedError(Exception):
    """This machine lacks something that the benchmark needs; the message says what."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    rounds: int = 5
    quick: bool = False
    executions: int = 500
    """Life cycles per round."""


@dataclass(frozen=True)
class Series:
    """One value per round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of the rounds."""
        return statistics.median(self.values)

    def shown(self, unit: str) -> str:
        """`median (min to max) unit`."""
        return f"{_number(self.median)} ({_number(min(self.values))} to {_number(max(self.values))}) {unit}"


@dataclass(frozen=True)
class Line:
    """One line of the result table: ours, and where there is one the peer and ours/peer by round."""

    what: str
    unit: str
    ours: Series
    peer_name: str = ""
    peer: Series | None = None

    @property
    def ratios(self) -> Series | None:
        """Ours divided by the peer's, round by round."""
        if self.peer is None:
            return None
        return Series(tuple(own / other for own, other in zip(self.ours.values, self.peer.values, strict=True)))


@dataclass
class Result:
    """What one benchmark found."""

    name: str
    about: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spins: list[float] = field(default_factory=list)

    @property
    def noisy(self) -> bool:
        """Whether the fixed spin loop differed too much between the rounds."""
        return len(self.spins) > 1 and max(self.spins) / min(self.spins) > NOISY_SPREAD


async def compare(result: Result, measures: Sequence[Measure], rounds: int) -> list[Series]:
    """Run the measures in interleaved rounds, each round in random order, and spin before each round."""
    values: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        result.spins.append(spin())
        for index in random.sample(range(len(measures)), len(measures)):
            values[index].append(await measures[index]())
            await asyncio.sleep(_PAUSE_SECONDS)
    return [Series(tuple(one)) for one in values]


def spin() -> float:
    """Seconds that a fixed piece of work takes."""
    began = time.perf_counter()
    total = 0
    for number in range(_SPIN):
        total += number & 7
    return time.perf_counter() - began


def steal_ticks() -> tuple[int, int]:
    """Stolen and all CPU ticks since boot."""
    numbers = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return numbers[7], sum(numbers)


def machine_facts() -> dict[str, Any]:
    """Kernel, CPU, memory, disk and versions: what a figure depends on, nothing that names this installation."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((one.split(":", 1)[1].strip() for one in cpuinfo.splitlines() if one.startswith("model name")), "?")
    flags = next((one.split() for one in cpuinfo.splitlines() if one.startswith("flags")), [])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} x {model}",
        "sha_ni": "sha_ni" in flags,
        "memory_gib": round(memory / 1024**3),
        "fsync_per_second": round(_fsync_rate()),
        "load_at_start": [round(one, 2) for one in os.getloadavg()],
        "python": platform.python_version(),
        "docker": _first_line("docker", "version", "--format", "{{.Server.Version}}"),
        "bubblewrap": _first_line("bwrap", "--version"),
        "packages": {name: version(name) for name in ("fastapi", "uvicorn", "asyncpg", "uvloop", "procrastinate")},
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
    }


def _fsync_rate() -> float:
    with tempfile.TemporaryFile() as file:
        began = time.perf_counter()
        for _ in range(_FSYNCS):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        return _FSYNCS / (time.perf_counter() - began)


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip().split("\n")[0] or None


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show_ratio(line: Line) -> str:
    """`1.2 (1.1 to 1.4)`, or a dash where there is no peer."""
    return "-" if line.ratios is None else line.ratios.shown("x")
