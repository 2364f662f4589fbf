"""What the all-in-one costs while nobody uses it, and how long it takes to get ready."""

import asyncio
import shutil
from collections import Counter

import psutil

from tests.bench.harness import Line, Options, Result, Series, compare, spin
from tests.bench.installation import scratch_home, start_up

_MIB = 1024**2


async def idle(options: Options) -> Result:
    """Memory (PSS) and CPU of `slipway up` as it comes, embedded servers included."""
    settle = 5.0 if options.quick else 60.0
    windows = 2 if options.quick else options.rounds
    window = 5.0 if options.quick else 20.0
    result = Result(
        "idle",
        f"`slipway up` (default layout, embedded Postgres and Valkey, process runtime) after {settle:.0f} s "
        f"without use; {windows} windows of {window:.0f} s",
    )
    memory: list[float] = []
    cpu: list[float] = []
    by_program: Counter[str] = Counter()
    async with scratch_home() as home:
        up = await start_up(home, "--runtime", "process")
        try:
            root = psutil.Process(up.process.pid)
            await asyncio.sleep(settle)
            for _ in range(windows):
                result.spins.append(spin())
                before = _cpu_seconds(root)
                await asyncio.sleep(window)
                cpu.append((_cpu_seconds(root) - before) * 60 / window)
                by_program = _memory(root)
                memory.append(by_program.total() / _MIB)
        finally:
            await up.stop()
    result.lines.append(Line("memory, PSS of the process tree", "MiB", Series(tuple(memory))))
    result.lines.append(Line("CPU", "s per minute", Series(tuple(cpu))))
    shares = ", ".join(f"{name} {size / _MIB:.0f} MiB" for name, size in by_program.most_common())
    result.notes.append(f"By program: {shares}.")
    return result


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def _cpu_seconds(root: psutil.Process) -> float:
    total = 0.0
    for process in _tree(root):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _memory(root: psutil.Process) -> Counter[str]:
    found: Counter[str] = Counter()
    for process in _tree(root):
        found[process.name()] += process.memory_full_info().pss
    return found


async def ready(options: Options) -> Result:
    """Time from the command to the ready line, on a new home and on one that was used before."""
    result = Result("ready", "`slipway up` until it says ready; embedded servers, process runtime, default layout")

    async with scratch_home() as used:
        await (await start_up(used, "--runtime", "process")).stop()

        async def existing() -> float:
            up = await start_up(used, "--runtime", "process")
            await up.stop()
            return up.ready_seconds

        async def fresh() -> float:
            async with scratch_home() as home:
                up = await start_up(home, "--runtime", "process")
                await up.stop()
                return up.ready_seconds

        rounds = 2 if options.quick else options.rounds
        old, new = await compare(result, [existing, fresh], rounds)
        size = await asyncio.to_thread(shutil.disk_usage, used)
    result.lines.append(Line("existing home", "s", old, "fresh home", new))
    result.notes.append(f"Disk: {size.free / 1024**3:.0f} GiB free.")
    return result
