"""What goes away comes back, and nothing is lost: the agent, the log service, the store, the scheduler."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slipway_kit.ids import new_id
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.neighbours.platform import PlatformNeighbours
from slipway_testing.neighbours.relay import KeptLog

RunWorker = Callable[..., Awaitable[Path]]

LINES = 200_000
PRINT_LINES = f"""python3 -c '
import sys, time
for part in range(100):
    for i in range({LINES // 100}):
        sys.stdout.write("line %d of the run\\n" % (part * {LINES // 100} + i))
    sys.stdout.flush()
    time.sleep(0.02)
'"""
EXPECTED = b"".join(b"line %d of the run\n" % number for number in range(LINES))


async def test_killed_agent_takes_the_run_up_again(platform: PlatformNeighbours, agent_process: AgentProcess) -> None:
    platform.relay.hold_durable = True
    attempt = await platform.assign(PRINT_LINES + '\necho done > "$VH_OUTPUTS_DIR"/result.txt')
    await platform.scheduler.until(lambda: _lines(platform, attempt) > 20_000)
    before = list(platform.relay.logs[attempt].lines[:20_000])
    await agent_process.kill()
    await agent_process.start()
    fact = await platform.scheduler.ended(attempt)
    platform.relay.logs[attempt].durable = len(platform.relay.logs[attempt].lines)
    log = platform.relay.logs[attempt]
    assert isinstance(fact, Exited)
    assert (fact.code, fact.reason, fact.outputs) == (0, EndReason.SUCCESS, 1)
    assert log.stream(LogStream.STDOUT) == EXPECTED
    assert log.lines[:20_000] == before
    assert fact.last_line == len(log.lines)
    assert any("restarted" in line for line in log.statuses())
    assert len(platform.scheduler.facts_of(attempt, "exited")) == 1
    assert [report.machine_id for report in platform.scheduler.registrations] == [
        platform.scheduler.registrations[0].machine_id
    ]
    assert await agent_process.terminate() == 0
    await agent_process.start()


async def test_what_a_killed_agent_left_half_made_is_deleted(
    platform: PlatformNeighbours, agent_process: AgentProcess
) -> None:
    """Attempt directories without a record, and environments that no attempt has; those of a run are kept."""
    attempt = await platform.assign("sleep 4; python3 -c 'import pip'")
    await platform.scheduler.until(lambda: (agent_process.home / "attempts" / str(attempt) / "shim.json").exists())
    await agent_process.kill()
    half_made = agent_process.home / "attempts" / str(new_id())
    (half_made / "spool").mkdir(parents=True)
    stray = agent_process.home / "venvs" / "0123456789ab"
    (stray / "bin").mkdir(parents=True)
    await agent_process.start()
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert fact.code == 0
    assert not half_made.exists()
    assert not stray.exists()
    await platform.scheduler.until(lambda: not list((agent_process.home / "venvs").glob("attempt-*")))
    assert len(list((agent_process.home / "venvs").iterdir())) <= 1, "more than the spare environment is left"


async def test_log_service_that_loses_its_memory_gets_the_lines_again(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    await run_worker()
    platform.relay.hold_durable = True
    losses = []
    copies = []

    def lose_now_and_then(log: KeptLog) -> None:
        if log.requests in {4, 7, 10}:
            copies.append(list(log.lines))
            losses.append(platform.relay.forget(attempt))
            log.durable = 0

    attempt = await platform.assign(PRINT_LINES, secrets={"TOKEN": "line 777 of"})
    platform.relay.after_request = lose_now_and_then
    fact = await platform.scheduler.ended(attempt)
    log = platform.relay.logs[attempt]
    assert len(losses) == 3
    assert max(losses) > 0
    assert all(log.lines[: len(copy)] == copy for copy in copies)
    expected = EXPECTED.replace(b"line 777 of", b"*****")
    assert log.stream(LogStream.STDOUT) == expected
    assert fact.last_line == len(log.lines)
    # The spool is kept until the log store has everything.
    platform.relay.forget(attempt)
    await platform.scheduler.until(lambda: _stdout(platform, attempt) == expected)
    log.durable = len(log.lines)


async def test_refusing_log_service_holds_the_end_back(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker()
    platform.relay.refusing = True
    attempt = await platform.assign("echo hello")
    await platform.scheduler.until(
        lambda: (
            attempt in platform.scheduler.reports
            and "waiting for the log service" in platform.scheduler.reports[attempt].detail
            and platform.scheduler.reports[attempt].phase == AttemptPhase.UPLOADING
        )
    )
    assert platform.scheduler.facts_of(attempt, "exited") == []
    platform.relay.refusing = False
    fact = await platform.scheduler.ended(attempt)
    assert fact.reason == EndReason.SUCCESS
    assert _stdout(platform, attempt) == b"hello\n"


async def test_upload_waits_for_the_store_and_for_parts(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker()
    platform.gateway.part_size = 100_000
    attempt = await platform.assign('echo go; sleep 1; head -c 350000 /dev/zero > "$VH_OUTPUTS_DIR/big.bin"; echo 1')
    await platform.scheduler.until(lambda: _stdout(platform, attempt) == b"go\n")
    await platform.store.stop()
    await platform.scheduler.until(
        lambda: (
            "waiting for the store" in platform.scheduler.reports[attempt].detail
            and platform.scheduler.reports[attempt].phase == AttemptPhase.UPLOADING
        )
    )
    assert platform.scheduler.facts_of(attempt, "exited") == []
    await platform.store.start()
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.outputs) == (EndReason.SUCCESS, 1)
    assert await platform.gateway.content(attempt, "big.bin") == bytes(350_000)


@pytest.mark.parametrize("before", [1, 2], ids=["stopped", "killed"])
async def test_a_further_stop_gives_the_upload_up(
    platform: PlatformNeighbours, run_worker: RunWorker, before: int
) -> None:
    await run_worker()
    attempt = await platform.assign('echo x > "$VH_OUTPUTS_DIR/x.txt"; echo go; sleep 30')
    await platform.scheduler.until(lambda: _stdout(platform, attempt) == b"go\n")
    await platform.store.stop()
    for level in range(1, before + 1):
        platform.scheduler.stop(attempt, level=level)
        await platform.scheduler.until(lambda wanted=level: platform.scheduler.reports[attempt].stop_level == wanted)
    await platform.scheduler.until(lambda: "waiting for the store" in platform.scheduler.reports[attempt].detail)
    platform.scheduler.stop(attempt, level=3)
    fact = await platform.scheduler.ended(attempt)
    assert fact.reason == EndReason.UPLOAD_GIVEN_UP


async def test_first_sync_is_answered_at_once_and_later_ones_are_held(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    """Until the first answer a worker does not count as ready, so nobody should have to wait for it."""
    await run_worker()
    await platform.scheduler.until(lambda: len(platform.scheduler.syncs) >= 2)
    assert platform.scheduler.syncs[0].wait_seconds == 0
    assert platform.scheduler.syncs[1].wait_seconds > 5


async def test_worker_registers_again_when_its_token_is_refused(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    await run_worker()
    await platform.scheduler.until(lambda: platform.scheduler.syncs)
    platform.scheduler.revoke_workers()
    await platform.scheduler.until(lambda: len(platform.scheduler.registrations) == 2)
    first, second = platform.scheduler.registrations
    assert first.machine_id == second.machine_id
    attempt = await platform.assign("echo hello")
    assert (await platform.scheduler.ended(attempt)).reason == EndReason.SUCCESS


async def test_facts_are_told_until_they_are_answered(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker()
    platform.scheduler.answer_facts = False
    attempt = await platform.assign("echo hello")
    await platform.scheduler.until(lambda: any(len(sync.facts) == 3 for sync in platform.scheduler.syncs))
    await platform.api.stop()
    await asyncio.sleep(0.3)
    platform.scheduler.answer_facts = True
    await platform.api.start()
    assert (await platform.scheduler.ended(attempt)).reason == EndReason.SUCCESS
    assert [fact.seq for fact in platform.scheduler.facts] == [1, 2, 3]


async def test_log_limit_ends_in_a_named_gap(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    from slipway_schemas.environments import EnvironmentSettings

    await run_worker()
    attempt = await platform.assign(
        "seq 1 1000", environment=EnvironmentSettings(log_limit_bytes=100), secrets={"TOKEN": "hush-hush-secret"}
    )
    await platform.scheduler.ended(attempt)
    log = platform.relay.logs[attempt]
    assert len(log.stream(LogStream.STDOUT)) <= 100
    assert any("limit of 100 bytes" in line for line in log.statuses())
    assert any("more bytes of output were not kept" in line for line in log.statuses())


async def test_fake_runtime_passes_the_same_barrier(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker("fake", slots=20)
    attempts = [await platform.assign(f"echo run {number}\nexit {number % 2}") for number in range(20)]
    for number, attempt in enumerate(attempts):
        fact = await platform.scheduler.ended(attempt)
        assert isinstance(fact, Exited)
        assert fact.code == number % 2
        assert _stdout(platform, attempt) == f"run {number}\n".encode()
    assert max(len(sync.attempts) for sync in platform.scheduler.syncs) > 1


def _lines(platform: PlatformNeighbours, attempt: object) -> int:
    log = platform.relay.logs.get(attempt)  # type: ignore[call-overload]
    return len(log.lines) if log else 0


def _stdout(platform: PlatformNeighbours, attempt: object) -> bytes:
    log = platform.relay.logs.get(attempt)  # type: ignore[call-overload]
    return log.stream(LogStream.STDOUT) if log else b""
