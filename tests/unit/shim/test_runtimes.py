"""The runtimes with real shims, pipes and processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway_runtime.layout import STDERR, AttemptLayout, ShimSpec
from slipway_runtime.runtimes.docker import DockerRuntime
from slipway_runtime.runtimes.fake import FakeRuntime
from slipway_runtime.runtimes.process import ProcessRuntime
from slipway_runtime.runtimes.protocol import ContainerRuntime, RunHandle
from slipway_testing.conformance.container_runtime import (
    ContainerRuntimeConformance,
    Launch,
    make_plan,
    output_of,
)
from slipway_worker.shim.client import ZygoteClient

IMAGE = "slipway-test/python:bookworm"


@pytest.fixture
async def zygote(tmp_path: Path) -> AsyncIterator[ZygoteClient]:
    client = ZygoteClient(tmp_path / "zygote.sock")
    await client.ensure()
    yield client
    await client.exit()


@pytest.fixture
def launch(zygote: ZygoteClient) -> Launch:
    async def start(layout: AttemptLayout, spec: ShimSpec) -> RunHandle:
        return await zygote.start(layout, spec)

    return start


@pytest.fixture
def image() -> str:
    return IMAGE


class TestFake(ContainerRuntimeConformance):
    @pytest.fixture
    async def runtime(self) -> AsyncIterator[ContainerRuntime]:
        runtime = FakeRuntime()
        yield runtime
        await runtime.aclose()

    @pytest.fixture
    def launch(self, runtime: ContainerRuntime) -> Launch:
        async def start(layout: AttemptLayout, spec: ShimSpec) -> RunHandle:
            assert runtime.launcher is not None
            return runtime.launcher(layout, spec)

        return start


class TestPlain(ContainerRuntimeConformance):
    @pytest.fixture
    async def runtime(self, tmp_path: Path) -> AsyncIterator[ContainerRuntime]:
        runtime = ProcessRuntime(tmp_path, sandbox=False)
        await runtime.check()
        yield runtime
        await runtime.aclose()

    async def test_orphans_do_not_survive(self, runtime: ContainerRuntime, launch: Launch, tmp_path: Path) -> None:
        plan = make_plan(runtime, tmp_path, "any", "(setsid sleep 300 & echo $! >../outputs/pid)\nsleep 0.2")
        prepared = await runtime.prepare(plan)
        record = await (await launch(plan.layout, prepared.spec)).wait()
        pid = int((plan.layout.valohai / "outputs/pid").read_text())
        assert record.code == 0
        assert not Path(f"/proc/{pid}").exists()
        await runtime.cleanup(plan.attempt_id)
        plan.layout.remove()


@pytest.mark.bwrap
class TestSandbox(ContainerRuntimeConformance):
    @pytest.fixture
    async def runtime(self, tmp_path: Path) -> AsyncIterator[ContainerRuntime]:
        runtime = ProcessRuntime(tmp_path)
        assert (await runtime.check()).version == "bubblewrap"
        yield runtime
        await runtime.aclose()

    async def test_variables_and_python(self, runtime: ContainerRuntime, launch: Launch, tmp_path: Path) -> None:
        command = "pwd >&2\necho \"$TOKEN\" >&2\npython -c 'import sys; print(sys.prefix != sys.base_prefix)' >&2"
        plan = make_plan(runtime, tmp_path, "any", command, TOKEN="it's $x")
        prepared = await runtime.prepare(plan)
        await (await launch(plan.layout, prepared.spec)).wait()
        assert output_of(plan.layout, STDERR) == b"/valohai/repository\nit's $x\nTrue\n"
        assert not (plan.layout.state / "env").exists()
        await runtime.cleanup(plan.attempt_id)
        plan.layout.remove()


@pytest.mark.docker
class TestDocker(ContainerRuntimeConformance):
    @pytest.fixture
    async def runtime(self) -> AsyncIterator[ContainerRuntime]:
        runtime = DockerRuntime()
        assert (await runtime.check()).available
        yield runtime
        await runtime.aclose()
