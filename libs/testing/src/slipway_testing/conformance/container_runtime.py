"""What every `ContainerRuntime` does, the fake one included."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from slipway_runtime.environment import RunIdentity, container_environment
from slipway_runtime.layout import STDOUT, AttemptLayout, RunLimits, ShimSpec, parse_records, volatile_root
from slipway_runtime.runtimes.protocol import AttemptPlan, ContainerRuntime, RunHandle

Launch = Callable[[AttemptLayout, ShimSpec], Awaitable[RunHandle]]


def make_plan(runtime: ContainerRuntime, home: Path, image: str, command: str, **variables: str) -> AttemptPlan:
    """A plan for a short run below `home`."""
    attempt = str(uuid.uuid4())
    layout = AttemptLayout(home / attempt, volatile_root(home) / attempt)
    identity = RunIdentity(uuid.uuid4(), uuid.uuid4())
    environment = container_environment(identity, runtime.paths(layout), variables)
    limits = RunLimits(int_grace=0.5, term_grace=0.5)
    return AttemptPlan(attempt, str(identity.execution_id), layout, image, command, environment, limits=limits)


def output_of(layout: AttemptLayout, stream: int) -> bytes:
    """All bytes of a stream in the spool."""
    files = sorted(layout.spool.iterdir())
    records = [record for file in files for record, _ in parse_records(file.read_bytes())]
    return b"".join(record.data for record in records if record.stream == stream)


class ContainerRuntimeConformance:
    """Subclass it with the fixtures `runtime` (checked), `image` and `launch`."""

    async def test_output_and_exit_code(
        self, runtime: ContainerRuntime, image: str, launch: Launch, tmp_path: Path
    ) -> None:
        """Output arrives whole, and the run's exit code is the script's."""
        plan = make_plan(runtime, tmp_path, image, "echo one\necho two\nexit 3")
        try:
            prepared = await runtime.prepare(plan)
            run = await launch(plan.layout, prepared.spec)
            async with asyncio.timeout(60):
                record = await run.wait()
            assert (record.code, record.reason, record.error) == (3, None, None)
            assert output_of(plan.layout, STDOUT) == b"one\ntwo\n"
            assert record.bytes["stdout"] == len(b"one\ntwo\n")
        finally:
            await runtime.cleanup(plan.attempt_id)
            plan.layout.remove()

    async def test_stop_ends_the_run(
        self, runtime: ContainerRuntime, image: str, launch: Launch, tmp_path: Path
    ) -> None:
        """A stop starts no further command and is the reason of the end."""
        plan = make_plan(runtime, tmp_path, image, "echo begun\nsleep 50\necho never")
        try:
            prepared = await runtime.prepare(plan)
            run = await launch(plan.layout, prepared.spec)
            async with asyncio.timeout(60):
                while not any(file.stat().st_size for file in plan.layout.spool.iterdir()):
                    await asyncio.sleep(0.02)
                await run.stop()
                record = await run.wait()
            assert record.reason == "stopped"
            assert record.code == 130
        finally:
            await runtime.cleanup(plan.attempt_id)
            plan.layout.remove()

    async def test_cleanup_can_be_repeated(self, runtime: ContainerRuntime, image: str, tmp_path: Path) -> None:
        """Nothing is left, and an unknown attempt is no error."""
        plan = make_plan(runtime, tmp_path, image, "echo never")
        await runtime.prepare(plan)
        await runtime.cleanup(plan.attempt_id)
        await runtime.cleanup(plan.attempt_id)
        assert not (await runtime.inspect(plan.attempt_id)).exists
        plan.layout.remove()
