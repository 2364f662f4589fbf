"""How busy GPUs are."""

from collections.abc import Collection
from typing import Final

from slipway_schemas.usage import GpuUse
from slipway_worker.machine.nvidia import query_gpus

_QUERY_SECONDS: Final = 5.0
_MIB: Final = 1024 * 1024


async def gpu_use(wanted: Collection[int]) -> tuple[GpuUse, ...]:
    """These GPUs as NVIDIA's driver sees them now; none where it does not answer."""
    if not wanted:
        return ()
    table = await query_gpus("index,utilization.gpu,memory.used", _QUERY_SECONDS)
    return tuple(one for one in parse_use(table) if one.index in wanted)


def parse_use(text: str) -> tuple[GpuUse, ...]:
    """The driver's table `index, percent, MiB`; lines that do not fit are left out."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and all(field.isdigit() for field in fields):
            found.append(
                GpuUse(index=int(fields[0]), busy_percent=float(fields[1]), memory_bytes=int(fields[2]) * _MIB)
            )
    return tuple(found)
