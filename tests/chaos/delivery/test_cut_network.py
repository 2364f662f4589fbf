"""A worker in a network namespace of its own, whose link goes down for minutes while its runs go on."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway_testing.git_servers import GitHttpServer
from slipway_testing.ports import unused_port
from tests.chaos.delivery.support import Bench, Printer, sized
from tests.e2e.support.api import Api
from tests.e2e.support.platform import SLIPWAY, Platform

pytestmark = [pytest.mark.netns]

HERE, THERE = "10.213.77.1", "10.213.77.2"
CUT_SECONDS = sized(20, 180, 600)


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=20)


@dataclass
class Cable:
    """A namespace and the link to it."""

    namespace: str
    device: str

    def cut(self) -> None:
        ip("link", "set", self.device, "down")

    def mend(self) -> None:
        ip("link", "set", self.device, "up")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A new namespace, joined by a veth pair."""
    name = f"slw{os.getpid() % 100000}"
    ip("netns", "add", name)
    try:
        ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "uplink", "netns", name)
        ip("address", "add", f"{HERE}/30", "dev", f"{name}h")
        ip("link", "set", f"{name}h", "up")
        ip("-n", name, "address", "add", f"{THERE}/30", "dev", "uplink")
        ip("-n", name, "link", "set", "uplink", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield Cable(name, f"{name}h")
    finally:
        ip("netns", "delete", name)


@contextmanager
def far_worker(platform: Platform, cable: Cable) -> Iterator[None]:
    """A worker of the environment `far` inside the namespace."""
    platform.slipway("environment", "add", "far")
    settings = json.loads((platform.home / "environments" / "scheduler.json").read_text())
    command = [str(SLIPWAY.with_name("slipway-scheduler")), "token", "create", "far"]
    environment = {**os.environ, **settings}
    token = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout
    folder = Path(tempfile.mkdtemp(prefix="slipway-far-"))
    (folder / "token").write_text(token)
    values = {
        "server_url": f"http://{HERE}:{platform.port}",
        "group_token_file": str(folder / "token"),
        "home": str(folder / "home"),
        "runtime": "process",
        "slots": "4",
    }
    with (folder / "log").open("wb") as log:
        agent = subprocess.Popen(
            ["ip", "netns", "exec", cable.namespace, sys.executable, "-m", "slipway_worker", "serve"],
            env={**os.environ, **{f"SLIPWAY_WORKER__{name.upper()}": value for name, value in values.items()}},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
        _end_zygote(folder / "home")


def _end_zygote(home: Path) -> None:
    import asyncio

    from slipway_worker.shim.client import ZygoteClient

    asyncio.run(ZygoteClient(home / "zygote.sock").exit())


@pytest.mark.timeout(sized(300, 900, 1800))
def test_runs_go_on_while_the_network_is_cut(cable: Cable, tmp_path: Path) -> None:
    git_server = GitHttpServer(tmp_path / "git")
    port = unused_port()
    origin = f"http://{HERE}:{port}"
    platform = Platform("process", port=port, options=("--host", HERE, "--worker-url", origin))
    try:
        platform.start()
        with Api(origin, platform.credentials["token"]) as api, far_worker(platform, cable):
            bench = Bench(api, git_server, tmp_path / "project")
            seconds = CUT_SECONDS + 10
            printers = [
                Printer(1, "text", int(seconds * 50), per_second=50, outputs=3),
                Printer(2, "binary", int(CUT_SECONDS * 20), per_second=40, code=3),
                Printer(3, "long", int(seconds * 20), per_second=20, output_bytes=5_000_000),
                Printer(4, "text", int(sized(80_000, 400_000, 2_000_000)), outputs=1),
            ]
            runs = [bench.run(one, environment="far") for one in printers]
            for one in runs:  # one whose code has not started would rightly be run again
                api.wait_line(
                    {"url": f"/api/v0/executions/{one.id}/", "id": one.id}, "line " if one.kind != "binary" else ""
                )
            cable.cut()
            began = time.monotonic()
            for one in runs[:3]:
                bench.wait_detail(one, "unreachable since", 45)
            time.sleep(max(0.0, CUT_SECONDS - (time.monotonic() - began)))
            cut = time.monotonic() - began
            cable.mend()
            mended = time.monotonic()
            for one in runs:
                bench.wait(one, 120)
            arrived = time.monotonic() - mended
            size = sum(bench.check(one, "error" if one.code else "complete") for one in runs)
            print(
                f"link down {cut:.0f} s, {len(runs)} runs, {size} bytes of log, all there {arrived:.0f} s after; lost 0"
            )
    finally:
        platform.stop()
        platform.delete()
        git_server.close()
