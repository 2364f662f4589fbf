"""Runs nothing: writes scripted lines and an exit code, in process. For benchmarks and tests."""

import asyncio
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slipway_runtime.layout import (
    RECORD_HEADER,
    STDERR,
    STDOUT,
    AttemptLayout,
    ExitReason,
    ExitRecord,
    ShimSpec,
    spool_file_name,
)
from slipway_runtime.paths import ContainerPaths
from slipway_runtime.runtimes.protocol import (
    AttemptPlan,
    Launcher,
    PreparedAttempt,
    PullProgress,
    RegistryAuth,
    RunHandle,
    RunState,
    RuntimeInfo,
    RunUsage,
)


@dataclass(frozen=True)
class FakeScript:
    """What a fake run does: lines at once, then time, then the end."""

    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    exit_code: int = 0


def script_of_command(command: str) -> FakeScript:
    """Understands `echo TEXT`, `sleep SECONDS` and `exit CODE`, a command per line; all else does nothing."""
    script = FakeScript()
    for line in command.splitlines():
        match shlex.split(line, comments=True):
            case ["echo", *words, ">&2"]:
                script = replace(script, stderr=script.stderr + f"{' '.join(words)}\n".encode())
            case ["echo", *words]:
                script = replace(script, stdout=script.stdout + f"{' '.join(words)}\n".encode())
            case ["sleep", seconds]:
                script = replace(script, seconds=script.seconds + float(seconds))
            case ["exit", code]:
                return replace(script, exit_code=int(code))
            case _:
                continue
    return script


class FakeRun:
    """A run that is a task of this process."""

    def __init__(self, layout: AttemptLayout, script: FakeScript) -> None:
        self._layout = layout
        self._script = script
        self._started = datetime.now(UTC)
        self._interrupted = asyncio.Event()
        self._reason: ExitReason | None = None
        self._task = asyncio.create_task(self._run())

    def exit_record(self) -> ExitRecord | None:
        """How the run ended; None while it goes on."""
        return ExitRecord.read(self._layout.exit_file)

    def alive(self) -> bool:
        """True until the end."""
        return not self._task.done()

    async def stop(self, reason: str = "stopped") -> None:
        """End the run with code 130, as SIGINT would."""
        self._reason = self._reason or ("killed" if reason == "killed" else "stopped")
        self._interrupted.set()

    async def kill(self) -> None:
        """End the run."""
        await self.stop("killed")

    async def wait(self) -> ExitRecord:
        """Wait for the end."""
        return await asyncio.shield(self._task)

    async def _run(self) -> ExitRecord:
        script = self._script
        now = time.time_ns() // 1000
        records = [
            RECORD_HEADER.pack(stream, now, len(data)) + data
            for stream, data in ((STDOUT, script.stdout), (STDERR, script.stderr))
            if data
        ]
        if records:
            (self._layout.spool / spool_file_name(1)).write_bytes(b"".join(records))
        if script.seconds and self._reason is None:
            try:
                async with asyncio.timeout(script.seconds):
                    await self._interrupted.wait()
            except TimeoutError:
                self._interrupted.clear()
        code = 130 if self._reason else script.exit_code
        totals = {"stdout": len(script.stdout), "stderr": len(script.stderr)}
        finished = datetime.now(UTC).isoformat()
        record = ExitRecord(code, None, False, self._reason, None, self._started.isoformat(), finished, totals)
        record.write(self._layout.exit_file)
        return record


class FakeRuntime:
    """Every image is there, nothing is executed."""

    name = "fake"

    def __init__(self, script_of: Callable[[str], FakeScript] = script_of_command) -> None:
        self._script_of = script_of
        self._scripts: dict[str, FakeScript] = {}
        self._runs: dict[str, FakeRun] = {}

    @property
    def launcher(self) -> Launcher | None:
        """Runs in this process."""
        return self._launch

    def paths(self, layout: AttemptLayout) -> ContainerPaths:
        """As in a container."""
        return ContainerPaths()

    async def check(self) -> RuntimeInfo:
        """Always available."""
        return RuntimeInfo(available=True, version="1")

    async def image_present(self, image: str) -> bool:
        """Always."""
        return True

    async def pull(self, image: str, auth: RegistryAuth | None, progress: PullProgress) -> None:
        """Nothing to do."""

    async def prepare(self, plan: AttemptPlan) -> PreparedAttempt:
        """Read the script out of the command."""
        plan.layout.create()
        self._scripts[plan.attempt_id] = self._script_of(plan.command)
        return PreparedAttempt(ShimSpec(plan.attempt_id, limits=plan.limits))

    async def inspect(self, attempt_id: str) -> RunState:
        """What this process knows."""
        run = self._runs.get(attempt_id)
        record = run.exit_record() if run else None
        return RunState(run is not None, run is not None and run.alive(), record.code if record else None)

    async def usage(self, attempt_id: str, layout: AttemptLayout) -> RunUsage | None:
        """Nothing runs, so nothing is used."""
        return RunUsage(source="fake runtime", cpu_seconds=0.0, memory_bytes=0, processes=0)

    async def cleanup(self, attempt_id: str) -> None:
        """Forget the attempt."""
        self._scripts.pop(attempt_id, None)
        run = self._runs.pop(attempt_id, None)
        if run is not None and run.alive():
            await run.kill()
            await run.wait()

    async def aclose(self) -> None:
        """End what runs."""
        for attempt_id in list(self._runs):
            await self.cleanup(attempt_id)

    def _launch(self, layout: AttemptLayout, spec: ShimSpec) -> RunHandle:
        run = FakeRun(layout, self._scripts[spec.attempt])
        self._runs[spec.attempt] = run
        return run
