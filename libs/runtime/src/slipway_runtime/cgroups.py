"""Control groups for the process runtime, version 1 and 2, where the agent may make them."""

import contextlib
import os
from pathlib import Path

from slipway_runtime.runtimes.protocol import ResourceLimits

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


def make_cgroups(attempt_id: str, limits: ResourceLimits) -> list[str]:
    """Groups with the limits set, to be joined by the run; empty where the agent may not make them."""
    name = f"slipway-{attempt_id}"
    version_2 = (_ROOT / "cgroup.controllers").exists()
    wanted = _wanted(limits, version_2=version_2)
    made: list[Path] = []
    try:
        for controller, values in wanted.items():
            directory = _parent(controller, version_2=version_2) / name
            if directory not in made:
                directory.mkdir(exist_ok=True)
                made.append(directory)
            for file, value in values:
                (directory / file).write_text(value)
    except OSError:
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        return []
    return [str(directory) for directory in made]


def remove_cgroups(attempt_id: str) -> None:
    """Remove an attempt's groups. Their processes have ended by then."""
    version_2 = (_ROOT / "cgroup.controllers").exists()
    for controller in ("memory", "pids", "cpu"):
        with contextlib.suppress(OSError):
            (_parent(controller, version_2=version_2) / f"slipway-{attempt_id}").rmdir()


def _wanted(limits: ResourceLimits, *, version_2: bool) -> dict[str, list[tuple[str, str]]]:
    wanted = {"pids": [("pids.max", str(limits.pids))]}
    if limits.memory_bytes:
        file = "memory.max" if version_2 else "memory.limit_in_bytes"
        wanted["memory"] = [(file, str(limits.memory_bytes))]
    if limits.cpus:
        quota = str(int(limits.cpus * _PERIOD_US))
        if version_2:
            wanted["cpu"] = [("cpu.max", f"{quota} {_PERIOD_US}")]
        else:
            wanted["cpu"] = [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota)]
    return wanted


def _parent(controller: str, *, version_2: bool) -> Path:
    """The agent's own group; in version 2, where groups with processes have no children, its parent."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if version_2 and not controllers:
            own = _ROOT / path.lstrip("/")
            return own if own == _ROOT else own.parent
        if controller in controllers.split(","):
            own = _ROOT / controller / path.lstrip("/")
            # Inside a container the path may be the one outside of it.
            return own if os.access(own, os.W_OK) else _ROOT / controller
    return _ROOT / controller
