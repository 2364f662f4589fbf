"""Output waits in the pipes while the disk is full, and goes on when there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway_runtime.layout import parse_records
from slipway_worker.shim.pipes import PipeCopier
from slipway_worker.shim.reactor import Reactor
from slipway_worker.shim.spool import SpoolWriter

DISK = 512 * 1024
BALLAST = 384 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


@pytest.mark.mounts
def test_both_streams_wait_for_room_and_lose_nothing(tmp_path: Path, small_disk: Path) -> None:
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    for name in ("stdout", "stderr"):
        os.mkfifo(pipes / name)
    (small_disk / "ballast").write_bytes(b"x" * BALLAST)
    reactor = Reactor()
    waited: list[float] = []
    spool = SpoolWriter(small_disk, 2**30)
    copier = PipeCopier(reactor, pipes, spool, lambda: None, waited.append)
    printed = {1: b"o" * 150_000, 2: b"e" * 150_000}
    for pipe in copier.pipes:
        os.write(pipe.descriptor, printed[pipe.stream])

    reactor.run_until(lambda: bool(waited))
    assert sum(copier.totals().values()) < 300_000
    (small_disk / "ballast").unlink()
    reactor.run_until(lambda: sum(copier.totals().values()) == 300_000)
    copier.drain()
    spool.close()
    # A shim ends with its process; here its descriptors have to be closed by hand.
    for closing in (reactor._selector, reactor._wake_read, reactor._wake_write):
        closing.close()
    for pipe in copier.pipes:
        os.close(pipe.descriptor)

    spooled = (small_disk / "000001.raw").read_bytes()
    for stream, data in printed.items():
        assert b"".join(record.data for record, _ in parse_records(spooled) if record.stream == stream) == data
    assert waited[0] >= 0.9
