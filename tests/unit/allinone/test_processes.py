"""The processes of `--processes split`: started again when they end, ended with the platform, however that ends."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slipway_allinone.processes import ChildProcess, Program, running

PARENT = """
import asyncio, pathlib, sys
from slipway_allinone.processes import Program, running
async def main():
    folder = pathlib.Path(sys.argv[1])
    async with running([Program("sleeper", "sleeper", {"PYTHONPATH": str(folder)})], folder) as children:
        while children["sleeper"].pid is None:
            await asyncio.sleep(0.01)
        print(children["sleeper"].pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program that sleeps."""
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(60)\n")
    return tmp_path


async def test_a_killed_process_is_started_again(folder: Path) -> None:
    program = Program("sleeper", "sleeper", {"PYTHONPATH": str(folder)})
    async with running([program], folder) as children:
        former = await _other_pid(children["sleeper"], None)
        os.kill(former, signal.SIGKILL)
        assert await _other_pid(children["sleeper"], former) != former


async def _other_pid(child: ChildProcess, former: int | None) -> int:
    async with asyncio.timeout(10):
        while child.pid in (None, former):
            await asyncio.sleep(0.02)
    assert child.pid is not None
    return child.pid


def test_processes_end_with_a_platform_that_was_killed(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE) as platform:
        assert platform.stdout is not None
        child = psutil.Process(int(platform.stdout.readline()))
        platform.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the service outlived its platform"
        time.sleep(0.05)
