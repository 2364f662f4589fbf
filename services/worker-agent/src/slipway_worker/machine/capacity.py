"""What this machine has, and what is free of it."""

import os
from collections.abc import Iterable, Sequence
from typing import Final

import psutil

from slipway_schemas.executions import Resources
from slipway_schemas.workers import Capacity, Gpu
from slipway_worker.machine.nvidia import query_gpus
from slipway_worker.settings import WorkerSettings

_QUERY_SECONDS: Final = 10.0
_MIB: Final = 1024 * 1024


async def find_gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs as the driver lists them; none where there is no driver."""
    return parse_gpus(await query_gpus("index,name,memory.total", _QUERY_SECONDS))


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """GPUs of the driver's table `index, name, MiB`; lines that do not fit are left out."""
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].isdigit() and fields[2].isdigit():
            gpus.append(Gpu(index=int(fields[0]), name=fields[1], memory_bytes=int(fields[2]) * _MIB))
    return tuple(gpus)


def machine_capacity(slots: int, cpus: float | None, memory_bytes: int | None, gpus: Sequence[Gpu]) -> Capacity:
    """What runs may use here: the settings, or else all of the machine."""
    return Capacity(
        slots=slots,
        cpus=cpus if cpus is not None else float(len(os.sched_getaffinity(0))),
        memory_bytes=memory_bytes if memory_bytes is not None else int(psutil.virtual_memory().total),
        gpus=len(gpus),
    )


def default_memory(settings: WorkerSettings) -> int:
    """Limit of a run whose step names none. Of the whole machine a part is left to the machine and the agent."""
    total = int(psutil.virtual_memory().total * 0.95)
    return settings.container.memory_bytes or settings.memory_bytes or total


def free_capacity(capacity: Capacity, running: Iterable[Resources]) -> Capacity:
    """What is left beside the runs that hold a slot."""
    used = list(running)
    return Capacity(
        slots=max(0, capacity.slots - len(used)),
        cpus=max(0.0, capacity.cpus - sum(one.cpus or 0.0 for one in used)),
        memory_bytes=max(0, capacity.memory_bytes - sum(one.memory_bytes or 0 for one in used)),
        gpus=max(0, capacity.gpus - sum(one.gpus or 0 for one in used)),
    )


def pick_gpus(gpus: Sequence[Gpu], taken: Iterable[int], wanted: int) -> tuple[int, ...]:
    """Indices of `wanted` GPUs that nobody has; fewer when there are not enough."""
    busy = set(taken)
    return tuple(gpu.index for gpu in gpus if gpu.index not in busy)[:wanted]
