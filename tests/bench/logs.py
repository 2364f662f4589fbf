"""Log lines per second until they are durable, and how late a live reader sees a line."""

import asyncio
import contextlib
import hashlib
import re
import statistics
import tempfile
import time

import asyncpg

from tests.bench.harness import Line, Options, Result, Series, SkippedError, compare, spin
from tests.bench.installation import IMAGE, Workbench, installation, numbers_command, sha256_of_numbers
from tests.bench.start import require_image

_CLOCK = "date +%s%N"
_TICK_SECONDS = 0.05
_TIME = re.compile(rb'"(\d{19})(?:\\n)?"')
_LIMIT_SECONDS = 600.0
_DURABLE = "SELECT coalesce(sum(lines), 0) FROM logs_pub.log_total_v1 WHERE execution_id = $1::uuid"


async def log_rate(options: Options) -> Result:
    """Lines of 100 bytes printed at full speed, process runtime, until every one is in the log store's index."""
    count = 100_000 if options.quick else 1_000_000
    rounds = options.rounds
    result = Result(
        "log-rate",
        f"{count:,} lines of 100 bytes printed at full speed, from the first instruction until all are durable; "
        "process runtime, split layout",
    )
    command = numbers_command(count)
    expected = sha256_of_numbers(count)
    with_docker = True
    try:
        await require_image()
    except SkippedError as reason:
        with_docker = False
        result.notes.append(f"`docker logs -f` was left out: {reason}.")
    completion: list[float] = []
    async with installation("--runtime", "process", "--processes", "split") as client:
        bench = await client.prepare("lines", {"print": f"{_CLOCK}\n      {command}", "clock": _CLOCK})
        await bench.wait(await bench.run("clock"))
        database = await asyncpg.connect(client.database_url)

        async def ours() -> float:
            return await _durable_rate(bench, database, count, expected, completion)

        async def file() -> float:
            with tempfile.NamedTemporaryFile() as target:
                return count / await _timed(f"{command} | cat > {target.name} && sync {target.name}")

        async def docker() -> float:
            return await _docker_rate(command, count)

        series = await compare(result, [ours, file, *([docker] if with_docker else [])], rounds)
        await database.close()
    result.lines.append(Line("lines until durable", "per s", series[0], "pipe to a synced file", series[1]))
    if with_docker:
        result.lines.append(Line("lines until durable", "per s", series[0], "counting `docker logs -f`", series[2]))
    result.notes.append(
        f"The whole log was fetched afterwards and its SHA-256 compared. Final status: median "
        f"{statistics.median(completion):.1f} s after the first instruction."
    )
    return result


async def _durable_rate(
    bench: Workbench, database: asyncpg.Connection, count: int, expected: str, completion: list[float]
) -> float:
    execution = await bench.run("print")
    wait = asyncio.create_task(bench.wait(execution, _LIMIT_SECONDS))
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            while await database.fetchval(_DURABLE, execution["id"]) <= count:
                if wait.done():
                    wait.result()
                await asyncio.sleep(0.02)
        durable = time.time_ns()
        await wait
    finally:
        wait.cancel()
    digest = hashlib.sha256()
    head = b""
    async with bench.client.stream(f"/api/v0/executions/{execution['id']}/log/") as content:
        head = await content.readline()
        async for chunk in content.iter_any():
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise RuntimeError("the log that was kept differs from what was printed")
    began = int(head)
    completion.append((time.time_ns() - began) / 1e9)
    return count / ((durable - began) / 1e9)


async def _timed(command: str) -> float:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), _LIMIT_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"{command} failed: {output!r}")
    return time.perf_counter() - began


async def _docker_rate(command: str, count: int) -> float:
    process = await asyncio.create_subprocess_exec(
        *("docker", "run", "-d", IMAGE, "sh", "-c", command), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    container = output.decode().strip()
    try:
        seconds = await _timed(f"test $(docker logs -f {container} | wc -l) -eq {count}")
    finally:
        with contextlib.suppress(RuntimeError):
            await _timed(f"docker rm -f {container}")
    return count / seconds


async def log_delay(options: Options) -> Result:
    """Time from the write in the run to a live reader's socket, 20 lines a second."""
    ticks = 60 if options.quick else 200
    rounds = 2 if options.quick else options.rounds
    result = Result(
        "log-delay", "write in the run to an SSE reader of the live log, 20 lines/s; process runtime, split"
    )
    median: list[float] = []
    high: list[float] = []
    loop = f"sleep 1; for i in $(seq {ticks}); do {_CLOCK}; sleep {_TICK_SECONDS}; done"
    async with installation("--runtime", "process", "--processes", "split") as client:
        bench = await client.prepare("delay", {"tick": loop, "clock": _CLOCK})
        await bench.wait(await bench.run("clock"))
        for _ in range(rounds):
            result.spins.append(spin())
            delays = await _delays(bench)
            if len(delays) != ticks:
                raise RuntimeError(f"the reader saw {len(delays)} of {ticks} lines")
            median.append(statistics.median(delays))
            high.append(statistics.quantiles(delays, n=100)[98])
    result.lines.append(Line("delay p50", "ms", Series(tuple(median))))
    result.lines.append(Line("delay p99", "ms", Series(tuple(high))))
    return result


async def _delays(bench: Workbench) -> list[float]:
    execution = await bench.run("tick")
    found: list[float] = []
    async with bench.client.stream(f"/api/v1/streams/executions/{execution['id']}/log/") as content:
        ended = False
        async for line in content:
            now = time.time_ns()
            if line.startswith(b"data: "):
                found += [(now - int(one)) / 1e6 for one in _TIME.findall(line)]
            ended = ended or line.startswith(b"event: end")
            if ended and not line.strip():
                break
    await bench.wait(execution)
    return found
