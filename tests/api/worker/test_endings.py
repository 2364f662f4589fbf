"""How runs end: by themselves, by limits, by orders, by what goes wrong before they begin."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slipway_kit.ids import new_id
from slipway_schemas.attempts import ResolvedFile, ResolvedInput
from slipway_schemas.environments import EnvironmentSettings
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited, Failed
from slipway_testing.neighbours.platform import PlatformNeighbours

RunWorker = Callable[..., Awaitable[Path]]
StoreInput = Callable[..., Awaitable[ResolvedInput]]

FAST = EnvironmentSettings(stop_int_grace_seconds=0.3, stop_term_grace_seconds=0.3)


async def test_exit_code_limits_stop_condition_and_stop(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker(slots=4)
    wrong = await platform.assign("echo bad >&2; exit 7")
    late = await platform.assign("echo start; sleep 60", time_limit_seconds=1, environment=FAST)
    silent = await platform.assign("echo start; sleep 60", no_output_timeout_seconds=1, environment=FAST)
    done = await platform.assign(
        "echo '{\"loss\": 0.5}'; sleep 0.2; echo '{\"loss\": 0.1}'; sleep 60", stop_condition="loss < 0.2"
    )
    answers = [await platform.scheduler.ended(one) for one in (wrong, late, silent, done)]
    assert all(isinstance(one, Exited) for one in answers)
    assert [one.reason for one in answers] == [
        EndReason.USER_CODE,
        EndReason.TIME_LIMIT,
        EndReason.NO_OUTPUT,
        EndReason.STOP_CONDITION,
    ]
    assert isinstance(answers[0], Exited)
    assert answers[0].code == 7


async def test_stop_lets_the_run_write_its_outputs(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker()
    attempt = await platform.assign(
        "python3 -c '\n"
        "import os, time\n"
        'print("ready", flush=True)\n'
        "try:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        '    open(os.environ["VH_OUTPUTS_DIR"] + "/kept.txt", "w").write("kept")\n'
        "'"
    )
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and b"ready" in platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    platform.scheduler.stop(attempt)
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert fact.reason == EndReason.USER
    assert await platform.gateway.content(attempt, "kept.txt") == b"kept"
    assert platform.scheduler.reports[attempt].stop_level == 1


async def test_second_stop_kills_a_run_that_ignores_signals(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    await run_worker()
    attempt = await platform.assign("trap '' INT TERM; echo ready; while true; do sleep 0.1; done")
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and b"ready" in platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    platform.scheduler.stop(attempt)
    await platform.scheduler.until(lambda: platform.scheduler.reports[attempt].stop_level == 1)
    platform.scheduler.stop(attempt, level=2)
    fact = await platform.scheduler.ended(attempt, timeout=15)
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.code) == (EndReason.USER, 137)


async def test_wrong_checksum_and_missing_code_fail_before_the_run(
    platform: PlatformNeighbours, run_worker: RunWorker, store_input: StoreInput
) -> None:
    await run_worker(slots=2)
    data = await store_input("data", b"content", sha256=hashlib.sha256(b"other").hexdigest())
    wrong = await platform.assign("echo never", inputs=[data])
    missing = await platform.assign("echo never", files={"other.py": b"other"})
    archive = platform.gateway.materials[missing].code
    assert archive is not None
    await platform.gateway.store.delete(f"code/{archive.sha256}")
    fact = await platform.scheduler.ended(wrong)
    assert isinstance(fact, Failed)
    assert (fact.reason, fact.retryable) == (EndReason.INPUT_FAILED, False)
    assert "sha256" in fact.message
    assert "never" not in str(platform.relay.logs[wrong].lines)
    fact = await platform.scheduler.ended(missing)
    assert isinstance(fact, Failed)
    assert (fact.reason, fact.retryable) == (EndReason.CODE_UNAVAILABLE, False)


@pytest.mark.parametrize(("allowed", "reason"), [((), EndReason.INPUT_FAILED), (("127.0.0.0/8",), EndReason.SUCCESS)])
async def test_egress_rules_of_inputs(
    platform: PlatformNeighbours, run_worker: RunWorker, allowed: tuple[str, ...], reason: EndReason
) -> None:
    await run_worker()
    await platform.gateway.store.put("public/file", b"public")
    url = (await platform.gateway.url_of("public/file")).replace("127.0.0.1", "localhost")
    file = ResolvedFile(name="file", uri=url, url=url, cache_key=url, public=True)
    attempt = await platform.assign(
        'cat "$VH_INPUTS_DIR"/web/file',
        inputs=[ResolvedInput(name="web", input_id=new_id(), download="always", files=(file,))],
        environment=EnvironmentSettings(allow_input_networks=allowed),
    )
    fact = await platform.scheduler.ended(attempt)
    assert fact.reason == reason
    if isinstance(fact, Failed):
        assert "not public" in fact.message
    else:
        assert platform.relay.logs[attempt].stream(LogStream.STDOUT) == b"public"


async def test_superseded_attempt_is_killed_and_forgotten(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    home = await run_worker()
    attempt = await platform.assign("echo ready; sleep 60")
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and b"ready" in platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    platform.scheduler.assigned.clear()
    platform.scheduler.supersede(attempt)
    await platform.scheduler.until(lambda: not list((home / "attempts").iterdir()))
    assert not any(isinstance(fact, Exited | Failed) for fact in platform.scheduler.facts)


async def test_stop_before_the_command_is_started(platform: PlatformNeighbours, run_worker: RunWorker) -> None:
    await run_worker()
    await platform.store.stop()
    attempt = await platform.assign("echo never")
    await platform.scheduler.until(
        lambda: (
            attempt in platform.scheduler.reports
            and platform.scheduler.reports[attempt].phase == AttemptPhase.PREPARING
        )
    )
    platform.scheduler.stop(attempt)
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert fact.reason == EndReason.USER
    assert platform.scheduler.facts_of(attempt, "user_code_started") == []


async def test_declared_inputs_have_directories_and_last_of_one_name_wins(
    platform: PlatformNeighbours, run_worker: RunWorker, store_input: StoreInput
) -> None:
    await run_worker()
    first, second = await store_input("data", b"first"), await store_input("data", b"second")
    both = first.model_copy(update={"files": (*first.files, *second.files)})
    attempt = await platform.assign(
        'cat "$VH_INPUTS_DIR"/data/*; ls "$VH_INPUTS_DIR"; touch "$VH_INPUTS_DIR"/empty/writable',
        inputs=[both],
        declared=["data", "empty"],
    )
    fact = await platform.scheduler.ended(attempt)
    assert fact.reason == EndReason.SUCCESS
    assert platform.relay.logs[attempt].stream(LogStream.STDOUT) == b"seconddata\nempty\n"
    assert any("two files are called numbers.csv" in line for line in platform.relay.logs[attempt].statuses())
