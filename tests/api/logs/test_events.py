"""`events/`, `status-events/` and the raw log."""

import re

from slipway_schemas.logs import LogStream
from tests.api.logs.harness import T0, Relay, end_frame, frame


async def test_limits(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    attempt.print(*(f"line {n}" for n in range(2500)))
    await any_relay.send(attempt, *attempt.frames(0, 1200))
    await any_relay.flush_all()
    await any_relay.send(attempt, *attempt.frames(1200))
    for query, first in (("", 500), ("?limit=0", 0), ("?limit=100", 2400), ("?limit=9999", 0), ("?limit=2500", 0)):
        answer = await any_relay.events(attempt.execution_id, query)
        assert answer["total"] == 2500
        assert answer["truncated"] is (first > 0)
        assert [event["message"] for event in answer["events"]] == [f"line {n}" for n in range(first, 2500)]
    assert (await any_relay.get(attempt.execution_id, "events?limit=-1")).status_code == 400


async def test_fifty_thousand_lines_are_complete_and_ordered(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    attempt.print(*(f"line {n}" for n in range(50_000)))
    frames = attempt.frames(size=2000)
    for part in (frames[:10], frames[10:20], frames[20:]):
        await relay.send(attempt, *part)
        if part is not frames[20:]:
            await relay.flush_all()
    answer = await relay.events(attempt.execution_id, "?limit=0")
    assert answer["total"] == len(answer["events"]) == 50_000
    assert [event["message"] for event in answer["events"]] == [f"line {n}" for n in range(50_000)]
    assert len({event["time"] for event in answer["events"]}) == 50_000


async def test_identical_lines_have_distinct_times_of_six_digits(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    for first in (0, 3):
        await relay.send(attempt, frame([b"same\n"] * 3, first, time_us=T0))
    events = (await relay.events(attempt.execution_id))["events"]
    assert len({(event["stream"], event["time"], event["message"]) for event in events}) == 6
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", event["time"]) for event in events)


async def test_bytes_that_are_no_text_and_progress_lines(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    printed = b"caf\xe9\n10%\r20%\rdone\r\n\nend"
    await relay.send(attempt, frame([printed], 0))
    for flushed in (False, True):
        if flushed:
            await relay.flush_all()
            await relay.context.redis.flushall()
        messages = [event["message"] for event in (await relay.events(attempt.execution_id))["events"]]
        assert messages == ["caf�", "10%", "20%", "done", "", "end"]
        assert (await relay.get(attempt.execution_id, "log")).content == printed


async def test_several_attempts_are_shown_up_to_their_totals(relay: Relay) -> None:
    first = await relay.world.add_attempt()
    second = await relay.world.add_attempt(first.execution_id, number=2)
    first.print("a0", "a1", "a2 came after the end")
    second.print("b0", "b1")
    await relay.send(first, *first.frames())
    await relay.send(second, *second.frames())
    await relay.world.end(first, lines=2)
    answer = await relay.events(first.execution_id)
    assert answer["total"] == 4
    assert [event["message"] for event in answer["events"]] == ["a0", "a1", "b0", "b1"]
    answer = await relay.events(first.execution_id, "?limit=3")
    assert answer["truncated"] is True
    assert [event["message"] for event in answer["events"]] == ["a1", "b0", "b1"]
    assert (await relay.get(first.execution_id, "log")).content == b"a0\na1\nb0\nb1\n"


async def test_executions_without_lines_or_attempts(relay: Relay) -> None:
    nothing = {"total": 0, "truncated": False, "events": []}
    assert await relay.events((await relay.world.add_attempt()).execution_id) == nothing
    assert await relay.events(await relay.world.add_execution("queued")) == nothing


async def test_status_lines_and_transitions_by_time(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    for position, (before, after) in enumerate([(None, "queued"), ("queued", "started"), ("started", "complete")]):
        await any_relay.world.add_transition(attempt.execution_id, position, before, after, T0 + position * 1_000_000)
    status, out = LogStream.STATUS, LogStream.STDOUT
    await any_relay.send(attempt, frame([b"Pulling.\n"], 0, stream=status, time_us=T0 + 1_100_000))
    await any_relay.send(attempt, frame([b"printed\n"], 1, stream=out, time_us=T0 + 1_200_000))
    await any_relay.flush_all()
    await any_relay.send(attempt, frame([b"Uploading.\n"], 2, stream=status, time_us=T0 + 1_300_000), end_frame(3))
    answer = (await any_relay.get(attempt.execution_id, "status-events")).json()
    messages = [event["message"] for event in answer["status_events"]]
    assert messages == ["Queued.", "A worker has taken the execution.", "Pulling.", "Uploading.", "Complete."]
    assert {event["stream"] for event in answer["status_events"]} == {"status"}
    answer = (await any_relay.get(attempt.execution_id, "status-events?limit=2")).json()
    assert (answer["total"], [event["message"] for event in answer["status_events"]]) == (5, messages[:2])


async def test_only_the_gateway_may_read(relay: Relay) -> None:
    from slipway_kit.auth import ServiceSigner
    from slipway_kit.keys import load_private

    execution = await relay.world.add_execution()
    scheduler = ServiceSigner("scheduler", load_private(relay.world.keys / "scheduler"))
    for what in ("events", "status-events", "metadata", "log"):
        assert (await relay.get(execution, what, signer=scheduler)).status_code == 403
        bare = await relay._internal.get(f"/internal/v1/executions/{execution}/{what}")
        assert bare.status_code == 401
