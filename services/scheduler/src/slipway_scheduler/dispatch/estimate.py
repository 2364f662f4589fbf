"""When a queued execution will probably start, by how long finished runs of its environment took."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from slipway_schemas.executions import StartEstimate

RECENT = 20
"""How many finished runs, of a step or of the environment, an estimate looks at."""


@dataclass(frozen=True)
class Run:
    """A run of a step: for how long it has been running, or for how long it ran."""

    step: str
    seconds: float


def estimate_start(position: int, slots: int, running: Sequence[Run], finished: Sequence[Run]) -> StartEstimate | None:
    """Reckon when the execution at this place of the queue gets a slot; None without finished runs, or without slots.

    `finished` has the newest first. Each slot is free when its run has taken as long as runs of its step usually do;
    those that wait before it take as long as runs of the environment usually do.
    """
    recent = [run.seconds for run in finished[:RECENT]]
    if not recent or slots < 1:
        return None
    left = sorted(_left(run, finished, recent) for run in running)[:slots]
    free_in = [0.0] * (slots - len(left)) + left
    rounds, slot = divmod(position - 1, slots)
    seconds = free_in[slot] + rounds * median(recent)
    runs = f"the last {len(recent)} runs" if len(recent) > 1 else "the last run"
    message = f"It will start in about {in_words(seconds)}, going by {runs} of this environment."
    return StartEstimate(seconds=seconds, runs=len(recent), message=message)


def _left(run: Run, finished: Sequence[Run], recent: Sequence[float]) -> float:
    """How long a run will still take: as its step's usually do that had come so far; else as long again."""
    same = [one.seconds for one in finished if one.step == run.step][:RECENT] or recent
    longer = [seconds for seconds in same if seconds > run.seconds]
    return median(longer) - run.seconds if longer else run.seconds


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} hours"
    return f"{round(seconds / 86400)} days"
