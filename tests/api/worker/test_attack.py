"""What a run cannot do: a script inside a real attempt tries about forty ways out, on Docker and in the sandbox."""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from slipway_runtime.runtimes.process import ProcessRuntime
from slipway_runtime.runtimes.sandbox import hiding_arguments, system_arguments
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.executions import MountSpec
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited
from slipway_testing.neighbours.platform import PlatformNeighbours

RunWorker = Callable[..., Awaitable[Path]]
IMAGE = "slipway-test/python:bookworm"
ATTACK = (Path(__file__).parent / "attack.py").read_bytes()
METADATA = "169.254.169.254"


async def attack(platform: PlatformNeighbours, home: Path, **more: Any) -> dict[str, Any]:
    """Run the script in an attempt; what it says."""
    arguments = {
        "agent_pid": os.getpid(),
        "paths": [
            *(str(home / name) for name in ("attempts", "cache", "zygote.sock", "machine-id", "identity.json")),
            *(str(path) for path in (home.parent / "group-token", Path(__file__), Path("/dev/shm/slipway-0"))),
        ],
        "shadow_line": Path("/etc/shadow").read_text(),
        "metadata": METADATA,
        **more,
    }
    files = {"attack.py": ATTACK, "attack.json": json.dumps(arguments).encode()}
    attempt = await platform.assign("python3 attack.py attack.json", image=IMAGE, files=files)
    fact = await platform.scheduler.ended(attempt, timeout=90)
    log = platform.relay.logs[attempt]
    assert isinstance(fact, Exited), fact
    assert fact.code == 0, log.stream(LogStream.STDERR).decode()
    found: dict[str, Any] = json.loads(log.stream(LogStream.STDOUT))["attack"]
    assert fact.outputs == 0, "a link was uploaded"
    return found


@pytest.mark.bwrap
async def test_nothing_succeeds_in_the_sandbox(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    home = await run_worker("process")
    # The sandbox has the machine's network, and with it what the machine can reach: docs/security.md says so.
    found = await attack(platform, home, skip=["metadata_service", "neighbour_container"])
    print(f"sandbox: {found['tried']} abuses tried, {len(found['succeeded'])} succeeded")
    assert found["succeeded"] == []
    assert found["tried"] >= 35


@pytest.mark.docker
async def test_nothing_succeeds_in_a_container(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    home = await run_worker("docker", slots=2)
    listening = (
        "import socket, time\ns = socket.create_server(('0.0.0.0', 7777))\nprint('up', flush=True)\n"
        "while True:\n    s.accept()[0].close()"
    )
    neighbour = await platform.assign(f'python3 -c "{listening}"', image=IMAGE)
    await platform.scheduler.until(
        lambda: neighbour in platform.relay.logs and platform.relay.logs[neighbour].stream(LogStream.STDOUT) == b"up\n"
    )
    (network,) = inspect(neighbour)["NetworkSettings"]["Networks"].values()
    before = dropped_packets()
    found = await attack(platform, home, neighbour=network["IPAddress"])
    platform.scheduler.stop(neighbour)
    await platform.scheduler.ended(neighbour)
    print(f"container: {found['tried']} abuses tried, {len(found['succeeded'])} succeeded")
    assert found["succeeded"] == []
    assert found["tried"] >= 37
    assert dropped_packets() > before, "the metadata service was not reached for other reasons than our rule"


@pytest.mark.docker
async def test_the_containers_guards(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker("docker", memory_bytes=512 * 1024**2, container={"pids_limit": 200})
    attempt = await platform.assign("echo up; sleep 60", image=IMAGE, secrets={"TOKEN": "canary-of-inspect"})
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and platform.relay.logs[attempt].stream(LogStream.STDOUT) == b"up\n"
    )
    described = inspect(attempt)
    host = described["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 512 * 1024**2, "a step without a limit gets the worker's"
    assert host["PidsLimit"] == 200
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Privileged"], host["CapDrop"], host["IpcMode"], host["NetworkMode"]) == (
        *(False, ["ALL"], "private", "slipway"),
    )
    assert not any("sock" in mount["Source"] for mount in described["Mounts"])
    assert "canary-of-inspect" not in json.dumps(described)
    process = Path(f"/proc/{described['State']['Pid']}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2", "the engine's default profile"
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapBnd"], 16) == 0x4FB, "the eight kept capabilities"
    platform.scheduler.stop(attempt)
    await platform.scheduler.ended(attempt)


@pytest.mark.docker
async def test_packages_of_the_system_and_of_python_are_installed(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    """The kept capabilities are enough for `apt-get install` and `pip install`."""
    trust = "/etc/ssl/certs/ca-certificates.crt"
    await run_worker("docker", container={"ca_file": trust} if Path(trust).exists() else {})
    attempt = await platform.assign(
        "set -e; apt-get update -q; apt-get install -q -y --no-install-recommends hello; hello\n"
        "python3 -m pip install -q six; python3 -c 'import six; print(six.__name__)'",
        image=IMAGE,
    )
    fact = await platform.scheduler.ended(attempt, timeout=200)
    log = platform.relay.logs[attempt]
    assert fact.reason == EndReason.SUCCESS, (log.stream(LogStream.STDOUT) + log.stream(LogStream.STDERR)).decode()
    assert b"Hello, world!\n" in log.stream(LogStream.STDOUT)
    assert log.stream(LogStream.STDOUT).endswith(b"six\n")


@pytest.mark.bwrap
@pytest.mark.parametrize("allowed", [True, False])
async def test_mounts_are_what_the_worker_allows(
    platform: PlatformNeighbours, run_worker: RunWorker, tmp_path: Path, allowed: bool
) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    for folder in (shared, other):
        folder.mkdir()
        (folder / "file").write_text("mounted\n")
    (shared / "link").symlink_to(other)
    (shared / "engine").symlink_to("/run")
    home = await run_worker("process", container={"mount_roots": [str(shared)] if allowed else []})
    sources = [shared, shared / "link", shared / "engine", other, home, home.parent, Path("/"), Path("/proc")]
    mounts = [
        MountSpec(source=str(source), destination=f"/mnt/m{number}", readonly=False)
        for number, source in enumerate(sources)
    ]
    attempt = await platform.assign(
        "cat /mnt/*/file; ls /mnt", mounts=mounts, environment=EnvironmentSettings(allow_mounts=True)
    )
    fact = await platform.scheduler.ended(attempt)
    log = platform.relay.logs[attempt]
    said = log.stream(LogStream.STATUS).decode()
    assert said.count("is left out") == len(sources) - allowed, said
    if allowed:
        assert log.stream(LogStream.STDOUT) == b"mounted\nm0\n"
    assert fact is not None


@pytest.mark.bwrap
async def test_the_platforms_folders_are_covered_where_programs_lie(tmp_path: Path) -> None:
    """An installation below /opt is hidden, although /opt is shown to runs."""
    home = Path("/opt/slipway-attack-test")
    home.mkdir()
    try:
        (home / "key").write_text("canary")
        runtime = ProcessRuntime(tmp_path, hidden=(home,))
        assert (await runtime.check()).version == "bubblewrap"
        await runtime.aclose()
        arguments = [*system_arguments(), *hiding_arguments((home,)), "--proc", "/proc", "--dev", "/dev"]
        process = await asyncio.create_subprocess_exec(
            *("bwrap", *arguments, "--", "/bin/sh", "-c", f"ls {home} | wc -l"), stdout=asyncio.subprocess.PIPE
        )
        shown, _ = await process.communicate()
        assert shown == b"0\n"
    finally:
        (home / "key").unlink()
        home.rmdir()


def inspect(attempt: object) -> dict[str, Any]:
    """What the engine says of an attempt's container."""
    done = subprocess.run(["docker", "inspect", f"slipway-{attempt}"], capture_output=True, check=True, timeout=30)
    described: dict[str, Any] = json.loads(done.stdout)[0]
    return described


def dropped_packets() -> int:
    """Packets to link-local addresses that our rule has dropped."""
    done = subprocess.run(
        ["iptables", "-w", "-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    lines = [line.split() for line in done.stdout.splitlines() if "slipway0" in line and "169.254.0.0/16" in line]
    assert lines, "no rule"
    return sum(int(line[0]) for line in lines)
