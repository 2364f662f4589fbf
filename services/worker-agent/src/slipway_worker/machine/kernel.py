"""What the kernel's log says about processes that were killed for want of memory."""

import os
import re
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

_KILL: Final = re.compile(
    r"oom-kill:constraint=(?P<constraint>\w+),.*?task_memcg=(?P<group>[^,]*),task=(?P<task>.*),pid="
)
_RECORD: Final = re.compile(r"^\d+,\d+,(?P<us>\d+),[^;]*;(?P<text>.*)$", re.DOTALL)
_LARGEST_RECORD: Final = 8192


class MemoryKill(NamedTuple):
    """A process that the kernel has killed. `machine`: the machine ran out of memory, not a control group."""

    group: str
    task: str
    machine: bool


def kernel_time_us() -> int:
    """The clock of the kernel's log: µs since boot."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def memory_kills(since_us: int) -> list[MemoryKill]:
    """Kills since then, oldest first; empty where the kernel's log may not be read."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    records = []
    try:
        while True:
            try:
                records.append(os.read(log, _LARGEST_RECORD).decode(errors="replace"))
            except BrokenPipeError:
                continue  # records were overwritten while they were read: the next read goes on behind them
            except OSError:
                break
    finally:
        os.close(log)
    return parse_kills(records, since_us)


def parse_kills(records: Iterable[str], since_us: int) -> list[MemoryKill]:
    """The kills among records of `/dev/kmsg`."""
    kills = []
    for record in records:
        whole = _RECORD.match(record)
        if whole is None or int(whole["us"]) < since_us:
            continue
        found = _KILL.search(whole["text"])
        if found is not None:
            kills.append(MemoryKill(found["group"], found["task"], found["constraint"] != "CONSTRAINT_MEMCG"))
    return kills
