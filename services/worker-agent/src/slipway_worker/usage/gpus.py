"""How busy GPUs are."""

import asyncio
import shutil
from collections.abc import Collection
from typing import Final

from slipway_schemas.usage import GpuUse

_QUERY_SECONDS: Final = 5.0
_MIB: Final = 1024 * 1024


async def gpu_use(wanted: Collection[int]) -> tuple[GpuUse, ...]:
    """These GPUs as NVIDIA's driver sees them now; none where it does not answer."""
    program = shutil.which("nvidia-smi") if wanted else None
    if program is None:
        return ()
    process = await asyncio.create_subprocess_exec(
        program,
        "--query-gpu=index,utilization.gpu,memory.used",
        "--format=csv,noheader,nounits",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_QUERY_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        return ()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return tuple(one for one in parse_use(output.decode(errors="replace")) if one.index in wanted)


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
