"""How long after `POST executions/` the first instruction of the user's process runs, on an idle worker.

The step's first command prints the clock; the peers start the same command without a platform.
"""

import asyncio
import shutil
import statistics
import time

from slipway_runtime.runtimes.process import ProcessRuntime
from tests.bench.harness import Line, Options, Result, SkippedError, compare
from tests.bench.installation import IMAGE, Workbench, installation

_CLOCK = "date +%s%N"
_IDLE_SECONDS = 0.5
_SAMPLES = 5
_BWRAP = ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]


async def start_process(options: Options) -> Result:
    """Process runtime beside bubblewrap started by hand."""
    result = Result(
        "start-process", "`POST executions/` to the first instruction, process runtime, split layout, idle worker"
    )
    sandboxed = shutil.which("bwrap") is not None
    peer = [*(_BWRAP if sandboxed else []), "/bin/sh", "-c", _CLOCK]
    name = "bare bubblewrap" if sandboxed else "bare sh"
    await _measure(result, options, "process", name, peer)
    if not sandboxed:
        result.notes.append(f"bubblewrap is missing: {ProcessRuntime.name} runs are not sandboxed here.")
    return result


async def start_docker(options: Options) -> Result:
    """Docker runtime beside `docker run` of the same image."""
    await require_image()
    result = Result(
        "start-docker", "`POST executions/` to the first instruction, Docker runtime, split layout, idle worker"
    )
    peer = ["docker", "run", "--rm", IMAGE, "/bin/sh", "-c", _CLOCK]
    await _measure(result, options, "docker", "bare `docker run`", peer)
    return result


async def require_image() -> None:
    """Raises SkippedError unless a Docker engine answers and has the image."""
    if shutil.which("docker") is None:
        raise SkippedError("no docker command is installed")
    process = await asyncio.create_subprocess_exec(
        *("docker", "image", "inspect", IMAGE),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await asyncio.wait_for(process.wait(), 20) != 0:
        raise SkippedError(f"no Docker engine with the image {IMAGE} answers (SLIPWAY_TEST_IMAGE names another)")


async def _measure(result: Result, options: Options, runtime: str, peer_name: str, peer: list[str]) -> None:
    samples = 2 if options.quick else _SAMPLES
    ours_all: list[float] = []
    async with installation("--runtime", runtime, "--processes", "split") as client:
        bench = await client.prepare("start", {"clock": _CLOCK})
        for _ in range(2):
            await _platform_once(bench)

        async def ours() -> float:
            taken = [await _platform_once(bench) for _ in range(samples)]
            ours_all.extend(taken)
            return statistics.median(taken)

        async def theirs() -> float:
            return statistics.median([await _bare_once(peer) for _ in range(samples)])

        ours_series, peer_series = await compare(result, [ours, theirs], options.rounds)
    result.lines.append(Line("first instruction", "ms", ours_series, peer_name, peer_series))
    result.notes.append(f"Slowest of {len(ours_all)} starts: {max(ours_all):.0f} ms.")


async def _platform_once(bench: Workbench) -> float:
    await asyncio.sleep(_IDLE_SECONDS)
    began = time.time_ns()
    execution = await bench.run("clock")
    await bench.wait(execution)
    return (await bench.first_number(execution) - began) / 1e6


async def _bare_once(command: list[str]) -> float:
    began = time.time_ns()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return (int(output) - began) / 1e6
