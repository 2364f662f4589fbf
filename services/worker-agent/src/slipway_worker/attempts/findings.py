"""What is found on the machine when a run has ended: the evidence from which its end reason is decided."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slipway_runtime.layout import AttemptLayout, ExitRecord, ShimSpec
from slipway_runtime.runtimes.protocol import ContainerRuntime, RunUsage
from slipway_schemas.workers import DiskReport
from slipway_worker.machine.disk import Disk
from slipway_worker.machine.kernel import MemoryKill, memory_kills
from slipway_worker.usage.sampling import UsageSampler

_TAIL_BYTES: Final = 64 * 1024
_NO_SPACE: Final = (b"No space left on device", b"Disk quota exceeded", b"ENOSPC")


@dataclass(frozen=True)
class Findings:
    """What speaks for one reason or another. None = nobody can tell."""

    usage: RunUsage | None = None
    sampled: bool = False
    """`usage` is the last sample of the run, because nothing could be measured any more after its end."""
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    kills: tuple[MemoryKill, ...] = ()
    """Processes of this run that the kernel has killed for want of memory."""
    disk: DiskReport | None = None
    said_disk_full: bool = False
    """The last of what the run printed complains about a full disk."""

    def killed_for_memory(self, record: ExitRecord) -> bool:
        """Whether the kernel has killed anything of the run for want of memory."""
        counted = self.usage is not None and bool(self.usage.oom_kills)
        return record.oom or counted or bool(self.kills)

    def machine_was_short(self) -> bool:
        """Of a run that was killed for memory: whether the machine had none left, rather than the run its limit."""
        if self.memory_limit_bytes is None:
            return True
        return bool(self.kills) and all(kill.machine for kill in self.kills)

    def disk_was_full(self) -> bool:
        """Whether the run failed because the worker's disk had no room."""
        return self.said_disk_full and self.disk is not None and self.disk.full

    def evidence(self, record: ExitRecord, runtime: str) -> dict[str, Any]:
        """All of it as it is kept with the attempt."""
        found: dict[str, Any] = {"runtime": runtime, "exit_code": record.code, "signal": record.signal}
        if record.error:
            found["error"] = record.error
        if runtime == "docker":
            found["engine"] = {"oom_killed": record.oom, "exit_code": record.code, "error": record.error}
        usage = self.usage
        counted = None if self.sampled else usage
        at_limit = self.sampled and self.killed_for_memory(record) and not self.machine_was_short()
        memory = {
            # The kill proves what the last sample came too early to see.
            "peak_bytes": self.memory_limit_bytes if at_limit else self.memory_peak_bytes,
            "limit_bytes": self.memory_limit_bytes,
            "limit_hits": counted.memory_limit_hits if counted else None,
            "oom_kills": counted.oom_kills if counted else None,
            "source": usage.source if usage else None,
        }
        found["memory"] = {name: value for name, value in memory.items() if value is not None}
        if usage is not None and usage.processes_limit is not None:
            found["processes"] = {"limit": usage.processes_limit, "refused": usage.processes_refused or 0}
        if counted is not None and counted.cpu_seconds is not None:
            found["cpu_seconds"] = round(counted.cpu_seconds, 2)
        if self.kills:
            found["kernel"] = [
                f"killed {kill.task}: {'the machine' if kill.machine else 'its control group'} was out of memory"
                for kill in self.kills[:5]
            ]
        if self.disk is not None:
            found["disk"] = {"free_bytes": self.disk.free_bytes, "total_bytes": self.disk.total_bytes}
        return {name: value for name, value in found.items() if value not in ({}, None) or name == "exit_code"}


async def look(
    record: ExitRecord,
    layout: AttemptLayout,
    runtime: ContainerRuntime,
    sampler: UsageSampler,
    disk: Disk,
    memory_limit_bytes: int | None,
    since_us: int,
) -> Findings:
    """Look at everything once, after the run's end and before it is cleaned up. Never raises."""
    final = await runtime.usage(layout.root.name, layout)
    usage = final or sampler.latest
    kills: list[MemoryKill] = []
    said = False
    if record.code != 0:
        names = _group_names(layout)
        found = await asyncio.to_thread(memory_kills, since_us)
        kills = [kill for kill in found if any(name in kill.group for name in names)]
        said = await asyncio.to_thread(_complains, layout.spool)
    peaks = (usage.memory_peak_bytes if usage else None, sampler.peak_bytes)
    return Findings(
        usage=usage,
        sampled=final is None,
        memory_peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        memory_limit_bytes=memory_limit_bytes,
        kills=tuple(kills),
        disk=_report(disk),
        said_disk_full=said,
    )


def _group_names(layout: AttemptLayout) -> tuple[str, ...]:
    """Names by which the kernel's log knows the run: its own control group's, or its container's."""
    try:
        spec = ShimSpec.read(layout.spec_file)
    except (OSError, ValueError, TypeError, KeyError):
        return (layout.root.name,)
    return (layout.root.name, spec.docker.container) if spec.docker else (layout.root.name,)


def _report(disk: Disk) -> DiskReport | None:
    try:
        return disk.report()
    except OSError:
        return None


def _complains(spool: Path) -> bool:
    """Whether the end of the raw spool speaks of a full disk. Only looked at, never kept: it may hold secrets."""
    try:
        names = sorted(name for name in os.listdir(spool) if name.endswith(".raw"))
        if not names:
            return False
        with (spool / names[-1]).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return False
    return any(words in tail for words in _NO_SPACE)
