"""Full life cycles per second: create by HTTP, dispatch, run nothing, end, with all rows durable."""

import asyncio
import time
from typing import Any

import asyncpg

from tests.bench.harness import Line, Options, Result, SkippedError, compare
from tests.bench.installation import Client, Workbench, installation

_CONNECTIONS = 8
_SLOTS = 64
_POLL_SECONDS = 0.1
_DATABASE = "procrastinate_peer"
_LIMIT_SECONDS = 600.0


async def cycles(options: Options) -> Result:
    """The fake runtime beside procrastinate's no-op tasks on the same Postgres."""
    count = 50 if options.quick else options.executions
    result = Result(
        "cycles",
        f"{count} executions created over {_CONNECTIONS} connections until all are final; fake runtime, "
        f"{_SLOTS} slots, split layout, Postgres with fsync",
    )
    submit: list[float] = []
    async with installation("--runtime", "fake", "--processes", "split", "--slots", str(_SLOTS)) as client:
        bench = await client.prepare("cycles", {"nothing": "echo done"})
        await _life_cycles(bench, 20, [])
        peer = await _Procrastinate.prepare(client)

        async def ours() -> float:
            return await _life_cycles(bench, count, submit)

        async def theirs() -> float:
            return await peer.throughput(count)

        ours_series, peer_series = await compare(result, [ours, theirs], options.rounds)
        failed = [await bench.with_status(status) for status in ("error", "crashed", "stopped")]
        if any(failed):
            raise RuntimeError(f"{sum(failed)} executions did not complete")
    result.lines.append(Line("life cycles", "per s", ours_series, "procrastinate no-op jobs", peer_series))
    result.notes.append(
        f"Creation alone: median {sorted(submit)[len(submit) // 2]:.0f} `POST executions/` per s while earlier ones "
        "run. Procrastinate: jobs deferred one by one over as many connections, worker with the same concurrency, "
        "no HTTP, no states, no logs."
    )
    return result


async def _life_cycles(bench: Workbench, count: int, submit: list[float]) -> float:
    before = await bench.with_status("complete")
    began = time.perf_counter()
    await spread(count, lambda: bench.run("nothing"))
    submit.append(count / (time.perf_counter() - began))
    async with asyncio.timeout(_LIMIT_SECONDS):
        while await bench.unfinished():
            await asyncio.sleep(_POLL_SECONDS)
    taken = time.perf_counter() - began
    completed = await bench.with_status("complete") - before
    if completed != count and before + count < 10_000:
        raise RuntimeError(f"{completed} of {count} executions are complete")
    return count / taken


async def spread(count: int, work: Any) -> None:
    """Do `work` this many times from several connections."""
    left = iter(range(count))

    async def one_connection() -> None:
        for _ in left:
            await work()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(one_connection())


class _Procrastinate:
    """No-op jobs through procrastinate, in a database of its own on the platform's Postgres."""

    def __init__(self, app: Any, task: Any, done: list[int]) -> None:
        self._app = app
        self._task = task
        self._done = done

    @classmethod
    async def prepare(cls, client: Client) -> "_Procrastinate":
        """Raises SkippedError where its driver does not work."""
        if client.database_url is None:
            raise SkippedError("the platform's Postgres is not known")
        try:
            import procrastinate
        except ImportError as error:
            raise SkippedError(f"procrastinate cannot be used: {error}; its driver needs libpq5") from error
        connection = await asyncpg.connect(client.database_url)
        try:
            await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()
        url = client.database_url.replace("/slipway?", f"/{_DATABASE}?")
        app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=url, min_size=_CONNECTIONS, max_size=_CONNECTIONS * 2)
        )
        done = [0]

        @app.task(name="nothing")
        async def nothing() -> None:
            done[0] += 1

        async with app.open_async():
            await app.schema_manager.apply_schema_async()
        return cls(app, nothing, done)

    async def throughput(self, count: int) -> float:
        """Jobs per second from the first deferral to the last job that is marked done."""
        async with self._app.open_async():
            self._done[0] = 0
            worker = asyncio.create_task(
                self._app.run_worker_async(
                    concurrency=_SLOTS, install_signal_handlers=False, fetch_job_polling_interval=0.1, wait=True
                )
            )
            began = time.perf_counter()
            await spread(count, self._task.defer_async)
            async with asyncio.timeout(_LIMIT_SECONDS):
                while self._done[0] < count or await self._waiting():
                    await asyncio.sleep(0.02)
            taken = time.perf_counter() - began
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        return count / taken

    async def _waiting(self) -> bool:
        found = await self._app.job_manager.list_jobs_async(status="doing")
        return bool(list(found))
