"""The runs of the local worker, seen from outside: their shims outlive the platform."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from slipway_allinone.home import Home
from slipway_runtime.layout import AttemptLayout, volatile_root
from slipway_worker.shim.client import ShimHandle, ShimUnreachable, ZygoteClient

_END_SECONDS = 10.0


def running_attempts(home: Home) -> int:
    """How many executions still run on this machine."""
    return sum(1 for _ in _living(home))


async def end_runs(home: Home) -> None:
    """Kill every running execution of this home and wait until they are gone."""
    handles = list(_living(home))
    await asyncio.gather(*(_end(handle) for handle in handles))


def zygote_pid(home: Home) -> int | None:
    """Process id of the process that starts runs; None when there is none."""
    try:
        process_id = int((home.worker / "zygote.pid").read_text())
        command = Path(f"/proc/{process_id}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return process_id if os.fsencode(home.worker / "zygote.sock") in command.split(b"\0") else None


async def end_zygote(home: Home) -> None:
    """End the process that starts runs; like them it outlives the platform."""
    await ZygoteClient(home.worker / "zygote.sock").exit()


async def _end(handle: ShimHandle) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            await handle.kill()
            await handle.wait()
    except (ShimUnreachable, TimeoutError, OSError):
        return  # it ended meanwhile


def _living(home: Home) -> Iterator[ShimHandle]:
    folder = home.worker / "attempts"
    if not folder.is_dir():
        return
    volatile = volatile_root(home.worker)
    for root in folder.iterdir():
        handle = ShimHandle(AttemptLayout(root, volatile / root.name))
        if handle.alive():
            yield handle
