"""What a worker may send, and what it is answered."""

from uuid import uuid4

import google_crc32c
import pytest
import redis.asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from slipway_kit.auth import AttemptSigner
from slipway_logs.ingest import api as ingest_api
from slipway_schemas.logs import FRAME_HEADER, FrameFlag, LogStream
from tests.api.logs.harness import T0, Attempt, Relay, end_frame, frame


async def test_lines_are_taken_in_order_and_once(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    attempt.print(*(f"line {n}" for n in range(30)))
    assert (await any_relay.send(attempt)).next == 0
    assert (await any_relay.send(attempt, *attempt.frames(0, 10))).next == 10
    assert (await any_relay.send(attempt, *attempt.frames(0, 10))).next == 10, "a repetition is passed over"
    assert (await any_relay.send(attempt, *attempt.frames(15, 20))).next == 10, "a gap is not taken"
    assert (await any_relay.send(attempt, *attempt.frames(5, 15, size=7))).next == 15, "an overlap is cut"
    assert (await any_relay.send(attempt, *attempt.frames(0, 30, size=4))).next == 30, "a re-cut repetition too"
    events = (await any_relay.events(attempt.execution_id))["events"]
    assert [event["message"] for event in events] == [f"line {n}" for n in range(30)]


async def test_times_only_rise_whatever_the_worker_says(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    await any_relay.send(attempt, frame([b"a\n", b"b\n", b"c\n"], 0, time_us=T0))
    await any_relay.send(attempt, frame([b"d\n"], 3, time_us=T0 - 5_000_000))
    await any_relay.send(attempt, frame([b"e\n"], 4, time_us=2**62))
    await any_relay.send(attempt, frame([b"f\n"], 5, time_us=T0))
    times = [event["time"] for event in (await any_relay.events(attempt.execution_id))["events"]]
    assert times == sorted(set(times))
    assert times[:4] == [f"2023-11-14T22:13:20.{n:06d}" for n in range(4)]
    assert times[4] < "2100"


async def test_empty_log_ends(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    answer = await any_relay.send(attempt, end_frame(0))
    assert (answer.next, answer.durable, answer.metadata_next) == (0, 0, 0)
    await any_relay.archive.flush_due()
    assert await any_relay.factory._hot_tail.undurable() == 0
    assert await any_relay.events(attempt.execution_id) == {"total": 0, "truncated": False, "events": []}


def _bad_frames(attempt: Attempt) -> dict[str, bytes]:
    good = frame([b"one\n", b"two\n"], 0)
    wrong_checksum = bytearray(good)
    wrong_checksum[-1] ^= 1
    big = b"x" * (200 * 1024)
    return {
        "checksum": bytes(wrong_checksum),
        "count": frame([b"one\n", b"two\n"], 0, count=3),
        "cut in the payload": good[:-1],
        "cut in the header": good + good[: FRAME_HEADER.size - 1],
        "stream": frame([b"one\n"], 0, stream=9),
        "empty": frame([], 0),
        "size": FRAME_HEADER.pack(LogStream.STDOUT, 0, 1, 0, 0, T0, len(big), google_crc32c.value(big)) + big,
    }


@pytest.mark.parametrize(
    "kind", ["checksum", "count", "cut in the payload", "cut in the header", "stream", "empty", "size"]
)
async def test_bad_frames_are_refused_as_a_whole(relay: Relay, kind: str) -> None:
    attempt = await relay.world.add_attempt()
    bad = _bad_frames(attempt)[kind]
    answer = await relay.post(attempt, frame([b"good\n"], 0), bad)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == ("bad_checksum" if kind == "checksum" else "bad_frame")
    assert (await relay.send(attempt)).next == 0, "nothing of the request was taken"


async def test_oversize_body_is_refused(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    one = frame([b"x" * 60_000 + b"\n"], 0)
    answer = await relay.post(attempt, *[one] * (ingest_api.MAX_BODY_BYTES // len(one) + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await relay.send(attempt)).next == 0


async def test_superseded_attempt_is_refused(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    await relay.world.supersede(attempt)
    for frames in ([], [frame([b"a\n"], 0)]):
        answer = await relay.post(attempt, *frames)
        assert (answer.status_code, answer.json()["code"]) == (409, "superseded")


async def test_ended_attempt_may_only_repeat_what_it_had(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    attempt.print("a", "b", "c")
    await relay.world.end(attempt, lines=2)
    answer = await relay.post(attempt, *attempt.frames(0, 3))
    assert (answer.status_code, answer.json()["code"]) == (409, "ended")
    assert (await relay.send(attempt, *attempt.frames(0, 2), end_frame(2))).next == 2


async def test_ended_attempt_without_totals_is_closed(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    await relay.world.end(attempt, lines=None, metadata=None)
    answer = await relay.post(attempt, frame([b"a\n"], 0))
    assert (answer.status_code, answer.json()["code"]) == (409, "ended")
    assert (await relay.send(attempt)).next == 0, "asking is always allowed"


async def test_tokens(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    unknown = Attempt(uuid4())
    foreign = AttemptSigner(Ed25519PrivateKey.generate()).sign(attempt.claims())
    service = relay.world.gateway.token("logs")
    for token in ("nonsense", foreign, service, relay.world.attempt_signer.sign(unknown.claims())):
        answer = await relay.post(attempt, frame([b"a\n"], 0), token=token)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await relay._client.post("/workers/v1/logs")).status_code == 401


async def test_redis_away_is_503_and_then_goes_on(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = await relay.world.add_attempt()
    await relay.send(attempt, frame([b"a\n"], 0))
    redis_client = relay.context.redis

    async def refuse(*_: object, **__: object) -> None:
        raise redis.exceptions.ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(redis_client, "execute_command", refuse)
        answer = await relay.post(attempt, frame([b"b\n"], 1))
        assert answer.status_code == 503
    assert (await relay.send(attempt, frame([b"b\n"], 1))).next == 2


async def test_end_flag_on_a_frame_with_lines(any_relay: Relay) -> None:
    attempt = await any_relay.world.add_attempt()
    last = frame([b"a\n", b"b\n"], 0, flags=FrameFlag.END)
    await any_relay.send(attempt, last)
    assert await any_relay.archive.flush_due() == 1
    answer = await any_relay.send(attempt, last)
    assert (answer.next, answer.durable) == (2, 2)


async def test_ingest_is_measured(relay: Relay) -> None:
    attempt = await relay.world.add_attempt()
    data = frame([b"a\n", b"b\n"], 0)
    await relay.send(attempt, data)
    await relay.send(attempt, data)
    await relay.flush_all()
    value = relay.context.metrics.service.registry.get_sample_value
    assert value("slipway_logs_ingested_chunks_total") == 1
    assert value("slipway_logs_ingested_lines_total") == 2
    assert value("slipway_logs_ingested_bytes_total") == len(data)
    assert value("slipway_logs_flush_seconds_count") == 1
    assert value("slipway_logs_undurable_attempts") == 0
