"""Outputs are kept until the store has them: whatever is answered, whatever they are called, whoever dies."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from slipway_kit.errors import Invalid
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.logs import LogStream
from slipway_schemas.workers import Exited
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.neighbours.platform import PlatformNeighbours

RunWorker = Callable[..., Awaitable[Path]]


async def test_the_wait_for_the_store_says_since_when_what_is_left_and_when_it_is_tried_next(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    await run_worker()
    attempt = await platform.assign(
        'echo go; sleep 1; cd "$VH_OUTPUTS_DIR"; for n in 1 2 3; do head -c 500000 /dev/zero > $n; done'
    )
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    await platform.store.stop()
    await platform.scheduler.until(
        lambda: (
            attempt in platform.scheduler.reports
            and "waiting for the store" in platform.scheduler.reports[attempt].detail
        )
    )
    assert re.match(
        r"waiting for the store since \d\d:\d\d:\d\d UTC, next try at \d\d:\d\d:\d\d UTC; "
        r"0 uploaded, 3 left \(1\.5 MB\): The upload failed 3 times in a row: ",
        platform.scheduler.reports[attempt].detail,
    )
    assert platform.scheduler.reports[attempt].phase == AttemptPhase.UPLOADING
    assert platform.scheduler.syncs[-1].free.slots == 1, "the slot is free while files wait"
    await platform.store.start()
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.outputs) == (EndReason.SUCCESS, 3)


async def test_names_that_no_store_takes_are_left_out_and_said(
    platform: PlatformNeighbours, run_worker: RunWorker
) -> None:
    await run_worker()
    attempt = await platform.assign(
        'cd "$VH_OUTPUTS_DIR"; echo 1 > "$(printf "two\\nlines")"; echo 2 > fine; chmod a-w *; sleep 2; echo 3 > '
        '"$(printf "bell\\007")"'
    )
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.outputs) == (EndReason.SUCCESS, 1)
    said = "\n".join(platform.relay.logs[attempt].statuses())
    assert "two lines is not uploaded: the file name" in said
    assert "has control characters" in said
    assert [file.name for file in platform.gateway.outputs[attempt].files.values()] == ["fine"]


async def test_what_the_store_turns_out_not_to_have_is_uploaded_again(
    platform: PlatformNeighbours, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a part came twice: its ETag is another one than the upload's answer said."""
    await run_worker()
    platform.gateway.part_size = 100_000
    store = platform.gateway.store
    complete = store.complete_multipart
    refused = []

    async def refuse_once(upload, parts):  # type: ignore[no-untyped-def]
        if not refused:
            refused.append(parts)
            # The copy of part 1 that was under way comes in now.
            async with store.open_writer() as writer:
                await writer.write(bytes(100_000))
                await writer.commit_part(upload, 1)
        return await complete(upload, parts)

    monkeypatch.setattr(store, "complete_multipart", refuse_once)
    attempt = await platform.assign('head -c 250000 /dev/zero > "$VH_OUTPUTS_DIR/big.bin"')
    fact = await platform.scheduler.ended(attempt)
    assert isinstance(fact, Exited)
    assert (fact.reason, fact.outputs) == (EndReason.SUCCESS, 1)
    assert refused
    assert await platform.gateway.content(attempt, "big.bin") == bytes(250_000)


async def test_any_answer_of_the_store_keeps_the_files(
    platform: PlatformNeighbours, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 servers answer slow requests with status 400, which is not the last word."""
    await run_worker()
    store = platform.gateway.store
    verify = store.verify
    answers = []

    def refuse_twice(key: str, query: str):  # type: ignore[no-untyped-def]
        if key.startswith("data/"):
            answers.append(key)
            if len(answers) <= 2:
                raise Invalid("RequestTimeout")
        return verify(key, query)

    monkeypatch.setattr(store, "verify", refuse_twice)
    attempt = await platform.assign('echo x > "$VH_OUTPUTS_DIR/x"')
    assert (await platform.scheduler.ended(attempt)).reason == EndReason.SUCCESS
    assert len(answers) == 3
    assert await platform.gateway.content(attempt, "x") == b"x\n"


@pytest.mark.parametrize(("command", "reason"), [("exit 3", EndReason.USER_CODE), ("sleep 60", EndReason.USER)])
async def test_failed_and_stopped_runs_keep_their_outputs_while_the_store_is_away(
    platform: PlatformNeighbours, agent_process: AgentProcess, command: str, reason: EndReason
) -> None:
    """Also when the agent is killed while it waits."""
    attempt = await platform.assign(f'cd "$VH_OUTPUTS_DIR"; echo kept > model; echo go; {command}')
    await platform.scheduler.until(
        lambda: attempt in platform.relay.logs and platform.relay.logs[attempt].stream(LogStream.STDOUT)
    )
    await platform.store.stop()
    if reason == EndReason.USER:
        platform.scheduler.stop(attempt)
    await platform.scheduler.until(lambda: "waiting for the store" in platform.scheduler.reports[attempt].detail)
    await agent_process.kill()
    await agent_process.start()
    syncs = len(platform.scheduler.syncs)
    await platform.scheduler.until(
        lambda: any(
            "waiting for the store" in one.detail for sync in platform.scheduler.syncs[syncs:] for one in sync.attempts
        )
    )
    await platform.store.start()
    fact = await platform.scheduler.ended(attempt)
    assert (fact.reason, fact.outputs) == (reason, 1)
    assert await platform.gateway.content(attempt, "model") == b"kept\n"
    assert len(platform.scheduler.facts_of(attempt, "exited")) == 1
