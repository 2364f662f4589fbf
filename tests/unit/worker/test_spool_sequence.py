"""The sequence of lines is the same however often, and from wherever, the spool is read."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway_runtime.layout import RECORD_HEADER, STDERR, STDOUT, spool_file_name
from slipway_schemas.logs import FRAME_HEADER, FrameHeader, LogStream, split_lines
from slipway_worker.spool.frames import FrameBuilder, metadata_frames
from slipway_worker.spool.reading import SpoolReader
from slipway_worker.spool.status import StatusJournal

LIMIT = 10**9


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def journal_of(directory: Path) -> StatusJournal:
    return StatusJournal(directory / "status.jsonl", FixedClock(), str)


def reader_of(directory: Path, journal: StatusJournal, *, complete: bool, limit: int = LIMIT) -> SpoolReader:
    return SpoolReader(directory, journal, ["hidden-secret"], lambda: complete, limit)


def write_spool(directory: Path, seed: int, records: int = 400) -> None:
    rng = random.Random(seed)
    alphabet = [b"a", b"\n", b"\r", b"\r\n", b"hidden-", b"secret", b"hidden-secret", b'\n{"x": 1}\n', b"\xff" * 40_000]
    weights = [20, 8, 1, 1, 3, 3, 2, 1, 1]
    now, number, written = 1_700_000_000_000_000, 1, 0
    file = (directory / spool_file_name(number)).open("wb")
    for _ in range(records):
        now += rng.choice([10, 10, 10, 2_000_000])
        data = b"".join(rng.choices(alphabet, weights, k=rng.randrange(0, 30)))
        record = RECORD_HEADER.pack(rng.choice([STDOUT, STDERR]), now, len(data)) + data
        written += len(record)
        if written > 500_000:
            file.close()
            number, written = number + 1, 0
            file = (directory / spool_file_name(number)).open("wb")
        file.write(record)
    file.close()


def read_all(reader: SpoolReader, wanted: int = 0) -> tuple[list[tuple[int, bytes]], int]:
    """Lines from `wanted` on as the log service sees them, and the number of records."""
    builder = FrameBuilder(wanted)
    records = []
    while True:
        batch = reader.read()
        for block in batch.blocks:
            builder.add(block)
        records += batch.records
        if not batch.blocks and not batch.moved:
            break
    lines = []
    for frame in builder.take():
        header = FrameHeader.unpack(frame)
        payload = frame[FRAME_HEADER.size :]
        pieces = split_lines(payload)
        assert header.first == wanted + len(lines)
        assert header.lines == len(pieces)
        lines += [(header.stream, piece) for piece in pieces]
    return lines, len(records)


@pytest.mark.parametrize("seed", range(8))
def test_reading_again_and_from_any_line_gives_the_same(tmp_path: Path, seed: int) -> None:
    write_spool(tmp_path, seed)
    journal = journal_of(tmp_path)
    first = reader_of(tmp_path, journal, complete=True)
    lines: list[tuple[int, bytes]] = []
    journal.say("before all", first.position)
    builder = FrameBuilder(0)
    rng = random.Random(seed)
    for step in range(10_000):
        batch = first.read()
        for block in batch.blocks:
            builder.add(block)
        if rng.random() < 0.3:
            journal.say(f"step {step} hidden", first.position)
        if not batch.moved and first.ended:
            break
    for frame in builder.take():
        header = FrameHeader.unpack(frame)
        lines += [(header.stream, piece) for piece in split_lines(frame[FRAME_HEADER.size :])]
    assert first.ended

    again, records = read_all(reader_of(tmp_path, journal_of(tmp_path), complete=True))
    assert again == lines
    assert records == first.records
    assert not any(b"hidden-secret" in line for _, line in lines)
    third = reader_of(tmp_path, journal_of(tmp_path), complete=True)
    read_all(third)
    for _ in range(5):
        wanted = rng.randrange(len(lines))
        third.seek(wanted, 0)
        assert read_all(third, wanted)[0] == lines[wanted:]


async def test_what_is_said_after_a_restart_stands_behind_what_was_read(tmp_path: Path) -> None:
    write_spool(tmp_path, 1, records=20)
    journal = journal_of(tmp_path)
    before, _ = read_all(reader_of(tmp_path, journal, complete=False))
    journal = journal_of(tmp_path)
    reader = reader_of(tmp_path, journal, complete=False)
    await reader.catch_up()
    journal.say("adopted", reader.position)
    after, _ = read_all(reader_of(tmp_path, journal_of(tmp_path), complete=False))
    assert after == [*before, (LogStream.STATUS, b"adopted\n")]


def test_torn_status_line_is_forgotten(tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    journal.say("whole", 0)
    with (tmp_path / "status.jsonl").open("ab") as file:
        file.write(b'[0, 17, "to')
    again = journal_of(tmp_path)
    again.say("next", 0)
    assert [entry.text for entry in journal_of(tmp_path).entries] == ["whole", "next"]


def test_record_larger_than_one_read(tmp_path: Path) -> None:
    data = b"x" * 9 + b"\n"
    (tmp_path / spool_file_name(1)).write_bytes(RECORD_HEADER.pack(STDOUT, 1, 1_000_000) + data * 100_000)
    lines, _ = read_all(reader_of(tmp_path, journal_of(tmp_path), complete=True))
    assert len(lines) == 100_000


def test_torn_record_at_the_end_of_a_file_is_left_out(tmp_path: Path) -> None:
    whole = RECORD_HEADER.pack(STDOUT, 1, 4) + b"one\n"
    (tmp_path / spool_file_name(1)).write_bytes(whole + RECORD_HEADER.pack(STDOUT, 2, 100) + b"torn")
    (tmp_path / spool_file_name(2)).write_bytes(RECORD_HEADER.pack(STDOUT, 3, 4) + b"two\n")
    lines, _ = read_all(reader_of(tmp_path, journal_of(tmp_path), complete=True))
    assert lines == [(STDOUT, b"one\n"), (STDOUT, b"two\n")]


def test_log_limit_names_the_gap(tmp_path: Path) -> None:
    data = b"0123456789\n" * 10
    (tmp_path / spool_file_name(1)).write_bytes(
        b"".join(RECORD_HEADER.pack(STDOUT, n, len(data)) + data for n in range(1, 5))
    )
    lines, _ = read_all(reader_of(tmp_path, journal_of(tmp_path), complete=True, limit=250))
    texts = [line.decode() for stream, line in lines if stream == LogStream.STATUS]
    assert sum(len(line) for stream, line in lines if stream == STDOUT) == 220
    assert "limit of 250 bytes" in texts[0]
    assert "220 more bytes" in texts[1]


def test_metadata_frames_follow_each_other(tmp_path: Path) -> None:
    data = b"".join(b'{"step": %d}\n' % number for number in range(100))
    (tmp_path / spool_file_name(1)).write_bytes(RECORD_HEADER.pack(STDOUT, 1_700_000_000_000_000, len(data)) + data)
    reader = reader_of(tmp_path, journal_of(tmp_path), complete=True)
    records = reader.read().records
    frames = metadata_frames(records)
    assert [FrameHeader.unpack(frame).lines for frame in frames] == [100]
    assert records[99].record.values["step"] == 99
