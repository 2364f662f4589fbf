"""What a process and its descendants use, from /proc: where neither control groups nor an engine tell it."""

import os
from pathlib import Path

from slipway_runtime.runtimes.protocol import RunUsage

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree_usage(root: int) -> RunUsage | None:
    """CPU time and resident memory of all descendants of `root`, without `root` itself; None when there are none.

    Memory that several processes share counts for each of them. CPU time of a process that nobody waited for is lost.
    """
    children: dict[int, list[int]] = {}
    figures: dict[int, tuple[float, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            fields = stat[stat.rindex(")") + 2 :].split()
            children.setdefault(int(fields[1]), []).append(int(name))
            figures[int(name)] = (sum(map(int, fields[11:15])) / _TICKS, int(fields[21]) * _PAGE)
    members: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        members += below
        waiting += below
    if not members:
        return None
    return RunUsage(
        source="process table",
        cpu_seconds=sum(figures[pid][0] for pid in members),
        memory_bytes=sum(figures[pid][1] for pid in members),
        processes=len(members),
    )
