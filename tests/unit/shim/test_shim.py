"""The shim's limits and its independence."""

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway_runtime.layout import AttemptLayout, ProcessSpec, RunLimits, ShimSpec
from slipway_worker.shim.client import ZygoteClient


@pytest.fixture
async def zygote(tmp_path: Path) -> AsyncIterator[ZygoteClient]:
    client = ZygoteClient(tmp_path / "zygote.sock")
    await client.ensure()
    yield client
    await client.exit()


@pytest.fixture
def layout(tmp_path: Path) -> AttemptLayout:
    layout = AttemptLayout(tmp_path / "attempt", tmp_path / "volatile")
    layout.create()
    return layout


def shell(script: str) -> ShimSpec:
    process = ProcessSpec(["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, "/")
    return ShimSpec("a", process=process, limits=RunLimits(int_grace=0.2, term_grace=0.2))


async def test_time_limit_climbs_to_kill(zygote: ZygoteClient, layout: AttemptLayout) -> None:
    spec = shell("trap '' INT TERM; while :; do sleep 0.05; done")
    spec = replace(spec, limits=replace(spec.limits, time_limit=0.2))
    record = await (await zygote.start(layout, spec)).wait()
    assert (record.reason, record.code, record.signal) == ("time_limit", 137, 9)


async def test_silence_ends_the_run(zygote: ZygoteClient, layout: AttemptLayout) -> None:
    spec = shell("echo hi; exec sleep 60")
    spec = replace(spec, limits=replace(spec.limits, no_output_timeout=0.3))
    record = await (await zygote.start(layout, spec)).wait()
    assert record.reason == "no_output"


async def test_second_stop_kills_now(zygote: ZygoteClient, layout: AttemptLayout) -> None:
    spec = shell("trap '' INT TERM; echo up; while :; do sleep 0.05; done")
    spec = replace(spec, limits=RunLimits())
    handle = await zygote.start(layout, spec)
    while not handle.alive() or not (await handle.status())["bytes"]["stdout"]:
        pass
    await handle.stop()
    await handle.stop()
    record = await handle.wait()
    assert (record.reason, record.signal) == ("stopped", 9)


async def test_fast_output_is_whole_over_several_files(zygote: ZygoteClient, layout: AttemptLayout) -> None:
    spec = replace(shell("yes 0123456789 | head -c 20000000"), roll_bytes=4_000_000)
    record = await (await zygote.start(layout, spec)).wait()
    assert (record.code, record.bytes) == (0, {"stdout": 20_000_000, "stderr": 0})
    assert len(list(layout.spool.iterdir())) > 4


async def test_what_cannot_start_is_reported(zygote: ZygoteClient, layout: AttemptLayout) -> None:
    spec = ShimSpec("a", process=ProcessSpec(["/no/such/program"], {}, "/"))
    record = await (await zygote.start(layout, spec)).wait()
    assert record.reason == "start_failed"
    assert "/no/such/program" in (record.error or "")


def test_zygote_needs_the_standard_library_only() -> None:
    code = (
        "import sys, slipway_worker.shim.zygote\n"
        "own = {'slipway_worker', 'slipway_runtime'}\n"
        "names = {m.partition('.')[0] for m, module in sys.modules.items() if getattr(module, '__file__', None)}\n"
        "before = names - set(sys.stdlib_module_names) - own\n"
        "print(sorted(n for n in before if not n.startswith(('_', 'sitecustomize'))))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
