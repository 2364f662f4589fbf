"""A worker whose disk is full, and one whose clock is set back: nothing is lost, and the reasons are true.

The worker's home lies on a small file system of its own.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from slipway_kit.ids import new_id
from slipway_schemas.attempts import ResolvedFile, ResolvedInput
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited, Failed
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.neighbours.platform import PlatformNeighbours, platform_neighbours

MIB = 1024**2
DISK_MIB = 96
CANARY_LINES = 120
CANARY = f"for n in $(seq {CANARY_LINES}); do echo canary $n; sleep 0.05; done"
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[PlatformNeighbours]:
    async with platform_neighbours(tmp_path / "platform") as neighbours:
        yield neighbours
        assert neighbours.relay.problems == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of `DISK_MIB`."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def canary_lines(platform: PlatformNeighbours, attempt: UUID) -> list[str]:
    return platform.relay.logs[attempt].stream(LogStream.STDOUT).decode().splitlines()


async def printed(platform: PlatformNeighbours, attempt: UUID, text: bytes) -> None:
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and text in platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )


@pytest.mark.mounts
async def test_full_disk_is_told_refused_and_survived(platform: PlatformNeighbours, small_disk: Path) -> None:
    agent = AgentProcess(
        small_disk / "home",
        platform.api.url,
        platform.scheduler.group_token,
        "process",
        slots="4",
        disk__min_free_bytes=str(8 * MIB),
        disk__min_free_share="0",
        disk__patience_seconds="2",
    )
    await agent.start()
    try:
        await the_run_fills_the_disk_with_outputs(platform)
        await the_log_fills_the_disk(platform)
        await inputs_that_do_not_fit_are_refused(platform)
    finally:
        await agent.close()


async def the_run_fills_the_disk_with_outputs(platform: PlatformNeighbours) -> None:
    canary = await platform.assign(CANARY)
    await printed(platform, canary, b"canary 2\n")
    assert not platform.scheduler.syncs[-1].disk.full
    hog = await platform.assign('dd if=/dev/zero of="$VH_OUTPUTS_DIR/big" bs=1M; code=$?; sleep 1.5; exit $code')
    fact = await platform.scheduler.ended(hog)
    assert isinstance(fact, Exited), fact
    assert (fact.reason, fact.code) == (EndReason.DISK_FULL, 1)
    assert "free" in fact.message
    assert fact.evidence["disk"]["free_bytes"] < 8 * MIB
    assert "No space left on device" in str(fact.evidence["last_lines"])
    assert any(sync.disk is not None and sync.disk.full for sync in platform.scheduler.syncs)
    ended = await platform.scheduler.ended(canary)
    assert ended.reason == EndReason.SUCCESS
    assert canary_lines(platform, canary) == [f"canary {n + 1}" for n in range(CANARY_LINES)]
    await platform.scheduler.until(lambda: not platform.scheduler.syncs[-1].disk.full)


async def the_log_fills_the_disk(platform: PlatformNeighbours) -> None:
    flood = await platform.assign("echo begin; yes 0123456789abcde & yes error >&2")
    fact = await platform.scheduler.ended(flood, timeout=90)
    assert isinstance(fact, Exited), fact
    assert fact.reason == EndReason.DISK_FULL
    log = platform.relay.logs[flood].stream(LogStream.STDOUT)
    errors = platform.relay.logs[flood].stream(LogStream.STDERR)
    assert len(log) + len(errors) > 40 * MIB
    assert set(errors.split(b"\n")[:-1]) == {b"error"}
    lines = log.split(b"\n")
    assert lines[0] == b"begin"
    assert set(lines[1:-1]) == {b"0123456789abcde"}
    await platform.scheduler.until(lambda: not platform.scheduler.syncs[-1].disk.full)


async def inputs_that_do_not_fit_are_refused(platform: PlatformNeighbours) -> None:
    uri = f"datum://{new_id()}"
    file = ResolvedFile(name="big", uri=uri, url="http://127.0.0.1:1/big", size=10 * 1024**3, cache_key=uri)
    big = ResolvedInput(name="data", input_id=new_id(), download="always", files=(file,))
    fact = await platform.scheduler.ended(await platform.assign("echo never", inputs=[big]))
    assert isinstance(fact, Failed)
    assert (fact.reason, fact.retryable) == (EndReason.DISK_FULL, True)
    assert "The inputs need 10.0 GiB of disk" in fact.message
    assert fact.evidence["failed_in"] == "fetching"


@pytest.mark.faketime
async def test_clock_that_is_set_back_an_hour(
    platform: PlatformNeighbours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    for name, value in {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        # A clock that is set back changes the wall clock alone.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    agent = AgentProcess(
        tmp_path / "worker" / "home", platform.api.url, platform.scheduler.group_token, "process", slots="2"
    )
    await agent.start()
    monkeypatch.undo()
    try:
        canary = await platform.assign(CANARY)
        begin = time.monotonic()
        late = await platform.assign("echo waiting; sleep 60", time_limit_seconds=5)
        await printed(platform, canary, b"canary 9\n")
        await printed(platform, late, b"waiting\n")
        offset.write_text("-3600\n")
        await asyncio.sleep(1.0)
        assert "canary 20" in canary_lines(platform, canary)
        fact = await platform.scheduler.ended(late)
        assert fact.reason == EndReason.TIME_LIMIT
        assert 4.5 < time.monotonic() - begin < 25
        # The agent really lives in the past.
        assert time.time() - fact.at.timestamp() > 3000
        assert (await platform.scheduler.ended(canary)).reason == EndReason.SUCCESS
        assert canary_lines(platform, canary) == [f"canary {n + 1}" for n in range(CANARY_LINES)]
        for attempt in (canary, late):
            chunks = platform.relay.logs[attempt].times_us
            times = [time_us for stream, time_us in chunks if stream == LogStream.STDOUT]
            assert times == sorted(times), "times of lines went back"
    finally:
        await agent.close()
