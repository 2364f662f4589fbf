"""The lines of a replica get the same numbers, however often they are told and wherever a follower begins."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_builder.observe.replica_log import Mark, ReplicaLog
from slipway_builder.targets.protocol import ReplicaLine
from slipway_runtime.redaction import Redactor
from slipway_schemas.logs import FRAME_HEADER, FrameHeader, LogsAnswer, LogStream, split_lines

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
PLAIN = Redactor(())


class Kept:
    """What a log service has of a replica, by day."""

    def __init__(self) -> None:
        self.lines: dict[object, list[bytes]] = {}
        self.records: dict[object, int] = {}

    def take(self, day: object, frames: bytes) -> LogsAnswer:
        lines = self.lines.setdefault(day, [])
        position = 0
        while position < len(frames):
            header = FrameHeader.unpack(frames, position)
            start = position + FRAME_HEADER.size
            payload = frames[start : start + header.length]
            position = start + header.length
            if header.stream == LogStream.METADATA:
                self.records[day] = max(self.records.get(day, 0), header.first + header.lines)
                continue
            sent = split_lines(payload)
            assert len(sent) == header.lines
            assert header.first <= len(lines), "a gap"
            known = lines[header.first : header.first + len(sent)]
            assert known == sent[: len(known)], "the same number for other lines"
            lines += sent[len(known) :]
        return LogsAnswer(next=len(lines), durable=len(lines), metadata_next=self.records.get(day, 0))


def follow(lines: Sequence[ReplicaLine], mark: Mark | None, kept: Kept, batch_bytes: int = 10**6) -> list[Mark]:
    """A follower that is told lines from its mark on, and all marks that it could have left."""
    log = ReplicaLog(mark)
    known = log.known_until
    marks = []
    for line in lines:
        if known is None or line.at >= known:
            log.take(line, PLAIN)
    while (batch := log.next_batch(batch_bytes)) is not None:
        answer = kept.take(batch.day, batch.frames)
        assert log.answered(batch, answer)
        marks.append(batch.end)
    return marks


gaps = st.lists(st.sampled_from([0, 0, 0, 1, 3000, 10**6, 20 * 3600 * 10**6]), min_size=1, max_size=40)
texts = st.sampled_from([b"plain", b"", b"a\rb", b"x" * 70_000, b'{"vh_metadata": {"x": 1}}', b'{"x": 1}'])


@settings(deadline=None, max_examples=60)
@given(st.data(), gaps)
def test_whoever_begins_again_gives_the_same_numbers(data, steps):
    at, lines = MIDNIGHT, []
    for step in steps:
        at += timedelta(microseconds=step)
        lines.append(ReplicaLine("r", at, "stdout", data.draw(texts)))
    whole, parts = Kept(), Kept()
    follow(lines, None, whole)
    marks: list[Mark | None] = [None]
    for _ in range(4):
        told = lines[: data.draw(st.integers(0, len(lines)))]
        marks += follow(told, data.draw(st.sampled_from(marks)), parts, data.draw(st.sampled_from([1, 100, 10**6])))
    follow(lines, data.draw(st.sampled_from(marks)), parts)
    assert parts.lines == whole.lines
    assert parts.records == whole.records
    assert b"".join(b"".join(one) for one in whole.lines.values()) == b"".join(one.text + b"\n" for one in lines)


def test_only_wrapped_objects_on_stdout_are_metadata():
    kept = Kept()
    texts = [b'{"vh_metadata": {"a": 1}}', b'{"a": 1}', b'{"vh_metadata": {}, "b": 1}', b'{"vh_metadata": 3}', b"{"]
    lines = [ReplicaLine("r", MIDNIGHT, "stdout", text) for text in texts]
    follow([*lines, ReplicaLine("r", MIDNIGHT, "stderr", texts[0])], None, kept)
    assert list(kept.records.values()) == [1]


def test_lost_lines_are_noticed():
    log = ReplicaLog(None)
    log.take(ReplicaLine("r", MIDNIGHT, "stdout", b"one"), PLAIN)
    batch = log.next_batch(100)
    assert batch is not None
    assert not log.answered(batch, LogsAnswer(next=0, durable=0, metadata_next=0))
    assert log.next_batch(100) == batch, "it is still to be sent"
    assert log.answered(batch, LogsAnswer(next=1, durable=0, metadata_next=0))
    assert log.undurable() == batch.end
    assert log.durable(batch.day, 1) == batch.end
    assert log.undurable() is None
