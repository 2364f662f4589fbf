"""End reasons from what is found on the machine, the kernel's log, the last lines of a run, room on disks."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from slipway_runtime.layout import AttemptLayout, ExitRecord, write_private_json
from slipway_runtime.runtimes.protocol import RunUsage
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import DiskReport
from slipway_worker.attempts.findings import Findings
from slipway_worker.attempts.outcome import ending_of_run
from slipway_worker.attempts.record import AttemptState
from slipway_worker.machine.disk import Disk, bytes_below
from slipway_worker.machine.kernel import MemoryKill, parse_kills
from slipway_worker.settings import DiskSettings
from slipway_worker.spool.tail import TAIL_LINES, LogTail
from slipway_worker.usage.gpus import parse_use

MIB = 1024**2
STATE = AttemptState.model_construct(stop_reason=EndReason.USER)


def record(code: int | None, **more: Any) -> ExitRecord:
    """How the shim says that a run ended."""
    fields: dict[str, Any] = {"signal": None, "oom": False, "reason": None, "error": None, "started_at": None}
    return ExitRecord(**{"code": code, **fields, "finished_at": "2026-01-01T00:00:00+00:00", "bytes": {}, **more})


def full(free: int = 0) -> DiskReport:
    return DiskReport(free_bytes=free, total_bytes=100 * MIB, full=True)


CASES = [
    (record(0), Findings(), EndReason.SUCCESS, "exit code 0"),
    (record(3), Findings(), EndReason.USER_CODE, "non-zero"),
    (record(137, signal=9), Findings(), EndReason.USER_CODE, "signal 9 (SIGKILL)"),
    (record(139), Findings(), EndReason.USER_CODE, "signal 11 (SIGSEGV)"),
    (record(137, oom=True), Findings(memory_limit_bytes=64 * MIB), EndReason.CONTAINER_OOM, "limit of 64 MiB"),
    (record(137, oom=True), Findings(), EndReason.HOST_OOM, "kernel killed"),
    (record(1), Findings(usage=RunUsage("", oom_kills=1), memory_limit_bytes=MIB), EndReason.CONTAINER_OOM, "1 MiB"),
    # A child was killed for memory and the run got over it.
    (record(0, oom=True), Findings(memory_limit_bytes=64 * MIB), EndReason.SUCCESS, "exit code 0"),
    # The machine was short although the run has a limit: its limit is not to blame.
    (
        record(137, oom=True),
        Findings(memory_limit_bytes=MIB, kills=(MemoryKill("/x", "python3", machine=True),)),
        EndReason.HOST_OOM,
        "ran out of memory",
    ),
    (record(1), Findings(disk=full(), said_disk_full=True), EndReason.DISK_FULL, "0 MiB free"),
    # It says so, but the worker's disk has room: it was another disk, or just a text.
    (
        record(1),
        Findings(disk=DiskReport(free_bytes=50 * MIB, total_bytes=100 * MIB), said_disk_full=True),
        EndReason.USER_CODE,
        "non-zero",
    ),
    (record(1), Findings(disk=full()), EndReason.USER_CODE, "non-zero"),
    (record(1), Findings(usage=RunUsage("", processes_limit=64, processes_refused=9)), EndReason.USER_CODE, "of 64 pr"),
    (record(137, reason="killed"), Findings(), EndReason.USER, "Stopped by a user"),
    (record(130, reason="time_limit"), Findings(), EndReason.TIME_LIMIT, "time limit"),
    (record(None, reason="start_failed", error="no such file"), Findings(), EndReason.INTERNAL, "no such file"),
    (
        record(None, reason="start_failed", error="OSError: [Errno 28] No space left on device"),
        Findings(),
        EndReason.DISK_FULL,
        "No space",
    ),
    (record(None), Findings(), EndReason.INTERNAL, "Nobody saw"),
]


@pytest.mark.parametrize(("ended", "findings", "reason", "words"), CASES)
def test_reasons(ended: ExitRecord, findings: Findings, reason: EndReason, words: str) -> None:
    ending = ending_of_run(ended, STATE, findings, "process")
    assert (ending.reason, words in ending.message) == (reason, True), ending
    assert ending.evidence["exit_code"] == ended.code
    # Without an exit code, and not stopped, it is a failure of the platform.
    assert (ending.code is None) == (ended.code is None)


def test_evidence_says_only_what_is_known() -> None:
    usage = RunUsage("control group", memory_peak_bytes=60, memory_limit_bytes=64, oom_kills=1, cpu_seconds=1.239)
    found = Findings(usage=usage, memory_peak_bytes=60, memory_limit_bytes=64).evidence(record(137, oom=True), "docker")
    assert found == {
        "runtime": "docker",
        "exit_code": 137,
        "engine": {"oom_killed": True, "exit_code": 137, "error": None},
        "memory": {"peak_bytes": 60, "limit_bytes": 64, "oom_kills": 1, "source": "control group"},
        "cpu_seconds": 1.24,
    }


def test_a_sample_from_before_the_end_does_not_hide_that_the_limit_was_reached() -> None:
    usage = RunUsage("control group", memory_peak_bytes=5, oom_kills=0, memory_limit_hits=0)
    findings = Findings(usage=usage, sampled=True, memory_peak_bytes=5, memory_limit_bytes=64)
    assert findings.evidence(record(137, oom=True), "docker")["memory"] == {
        "peak_bytes": 64,
        "limit_bytes": 64,
        "source": "control group",
    }
    assert findings.evidence(record(1), "docker")["memory"]["peak_bytes"] == 5


def test_kills_in_the_kernels_log() -> None:
    line = (
        "oom-kill:constraint={},nodemask=(null),cpuset=/,mems_allowed=0{}task_memcg=/docker/abc,task=py 3,pid=7,uid=0"
    )
    records = [
        "6,1,900,-;" + line.format("CONSTRAINT_NONE", ",global_oom,"),
        "6,2,1000,-;" + line.format("CONSTRAINT_MEMCG", ",oom_memcg=/docker/abc,"),
        "6,3,1001,-;something else\n SUBSYSTEM=x",
        "6,4,1002,-;" + line.format("CONSTRAINT_NONE", ",global_oom,"),
        "garbage",
    ]
    assert parse_kills(records, 1000) == [
        MemoryKill("/docker/abc", "py 3", machine=False),
        MemoryKill("/docker/abc", "py 3", machine=True),
    ]


def test_last_lines_of_blocks_of_any_size() -> None:
    tail = LogTail()
    tail.add(LogStream.STDOUT, b"".join(b"line %d\n" % number for number in range(100_000)))
    tail.add(LogStream.STDERR, b"\xff\x00bad\n")
    tail.add(LogStream.STDOUT, b"x" * 64 * 1024)
    lines = tail.lines()
    assert len(lines) == TAIL_LINES
    assert lines[0] == {"stream": "stdout", "text": "line 99982"}
    assert lines[-2] == {"stream": "stderr", "text": "\ufffd\ufffdbad"}
    assert set(lines[-1]["text"]) == {"x"}
    assert len(lines[-1]["text"]) == 400


def test_a_disk_is_full_below_the_larger_of_both_marks(tmp_path: Path) -> None:
    total = Disk(tmp_path, DiskSettings()).report().total_bytes
    disk = Disk(tmp_path, DiskSettings(min_free_bytes=1024, min_free_share=0.5))
    assert disk.mark(100) == 1024
    assert disk.mark(10_000) == 5000
    assert Disk(tmp_path, DiskSettings(min_free_bytes=total + 1)).report().full
    assert not Disk(tmp_path, DiskSettings(min_free_bytes=0, min_free_share=0)).report().full


def test_bytes_below_directories(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = bytes_below([tmp_path / "a", tmp_path / "missing"], 100)
    assert found is not None
    assert 100_000 <= found < 200_000
    assert bytes_below([tmp_path], 2) is None


def test_gpus_of_the_drivers_table() -> None:
    found = parse_use("0, 97, 1024\n1, [N/A], 5\n2, 0, 7\n")
    assert [(one.index, one.busy_percent, one.memory_bytes) for one in found] == [
        (0, 97.0, 1024 * MIB),
        (2, 0.0, 7 * MIB),
    ]


def test_the_reserve_of_an_attempt_is_allocated(tmp_path: Path) -> None:
    layout = AttemptLayout(tmp_path / str(uuid4()), tmp_path / "volatile")
    layout.create()
    assert layout.reserve.stat().st_blocks * 512 >= 4 * MIB
    write_private_json(layout.root / "state.json", {"a": 1})
    assert layout.reserve.exists()
