"""Control groups of runs, version 1 and 2: made for the process runtime, read for every runtime."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from slipway_runtime.runtimes.protocol import ResourceLimits, RunUsage

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct")
_NO_LIMIT = 1 << 60
"""Version 1 says 'no limit' as the largest number of whole pages."""
_REMOVE_TRIES = 20
_REMOVE_PAUSE = 0.05


def make_cgroups(attempt_id: str, limits: ResourceLimits) -> list[str]:
    """Groups with the limits set, to be joined by the run; empty where the agent may not make them."""
    name = f"slipway-{attempt_id}"
    version_2 = _is_version_2()
    wanted = _wanted(limits, version_2=version_2)
    made: list[Path] = []
    try:
        if version_2:
            _hand_down(_parent("", version_2=True))
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


def groups_of_attempt(attempt_id: str) -> list[str]:
    """The groups that `make_cgroups` has made for an attempt, also in an earlier life of the agent."""
    version_2 = _is_version_2()
    found = (_parent(controller, version_2=version_2) / f"slipway-{attempt_id}" for controller in _CONTROLLERS)
    return [str(directory) for directory in dict.fromkeys(found) if directory.is_dir()]


def groups_of_process(pid: int) -> list[str]:
    """The groups that a process of this machine is in, where they can be seen from here."""
    version_2 = _is_version_2()
    found = []
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if version_2 and not controllers:
            found.append(_ROOT / path.lstrip("/"))
        found += [_ROOT / one / path.lstrip("/") for one in controllers.split(",") if one in _CONTROLLERS]
    return [str(directory) for directory in found if directory.is_dir()]


def remove_cgroups(attempt_id: str) -> None:
    """Remove an attempt's groups. Their processes have ended, and are given a second to be gone."""
    for directory in groups_of_attempt(attempt_id):
        for _try in range(_REMOVE_TRIES):
            try:
                Path(directory).rmdir()
            except OSError:
                time.sleep(_REMOVE_PAUSE)
            else:
                break


def read_usage(directories: Iterable[str]) -> RunUsage | None:
    """What the processes in these groups use and have used; None where nothing can be read."""
    files: dict[str, str] = {}
    for directory in directories:
        for name in _READ:
            with contextlib.suppress(OSError):
                files.setdefault(name, Path(directory, name).read_text())
    memory = _number(files, "memory.current", "memory.usage_in_bytes")
    processes = _number(files, "pids.current")
    if memory is None and processes is None:
        return None
    statistics = _table(files, "memory.stat")
    cache = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    events = _table(files, "memory.events") or _table(files, "memory.oom_control")
    limit = _number(files, "memory.max", "memory.limit_in_bytes")
    spent = _number(files, "cpuacct.usage")
    microseconds = _table(files, "cpu.stat").get("usage_usec")
    return RunUsage(
        source="control group",
        cpu_seconds=spent / 1e9 if spent is not None else microseconds / 1e6 if microseconds is not None else None,
        memory_bytes=None if memory is None else max(0, memory - cache),
        memory_peak_bytes=_number(files, "memory.peak", "memory.max_usage_in_bytes"),
        memory_limit_bytes=limit if limit is not None and limit < _NO_LIMIT else None,
        memory_limit_hits=events.get("oom", _number(files, "memory.failcnt")),
        oom_kills=events.get("oom_kill"),
        processes=processes,
        processes_limit=_number(files, "pids.max"),
        processes_refused=_table(files, "pids.events").get("max"),
    )


_READ = (
    *("memory.current", "memory.usage_in_bytes", "memory.peak", "memory.max_usage_in_bytes", "memory.stat"),
    *("memory.max", "memory.limit_in_bytes", "memory.events", "memory.oom_control", "memory.failcnt"),
    *("cpuacct.usage", "cpu.stat", "pids.current", "pids.max", "pids.events"),
)


def _number(files: dict[str, str], *names: str) -> int | None:
    for name in names:
        with contextlib.suppress(ValueError):
            if name in files:
                return int(files[name])
    return None


def _table(files: dict[str, str], name: str) -> dict[str, int]:
    found = {}
    for line in files.get(name, "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def _wanted(limits: ResourceLimits, *, version_2: bool) -> dict[str, list[tuple[str, str]]]:
    """Files to write by controller. Memory and CPU time have groups without limits too: they count what is used."""
    wanted: dict[str, list[tuple[str, str]]] = {"pids": [("pids.max", str(limits.pids))], "memory": []}
    if limits.memory_bytes:
        file = "memory.max" if version_2 else "memory.limit_in_bytes"
        wanted["memory"] = [(file, str(limits.memory_bytes))]
    if not version_2:
        wanted["cpuacct"] = []
    if limits.cpus:
        quota = str(int(limits.cpus * _PERIOD_US))
        if version_2:
            wanted["cpu"] = [("cpu.max", f"{quota} {_PERIOD_US}")]
        else:
            wanted["cpu"] = [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota)]
    return wanted


def _is_version_2() -> bool:
    return (_ROOT / "cgroup.controllers").exists()


def _hand_down(parent: Path) -> None:
    """Have children of a version 2 group get the controllers, one at a time: any of them may be missing."""
    for controller in ("memory", "pids", "cpu"):
        with contextlib.suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")


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
