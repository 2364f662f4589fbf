"""Frames and lines without servers."""

import time

from hypothesis import given
from hypothesis import strategies as st

from slipway_logs.frames import Frame, count_lines, in_order, parse_request, unpack_frames
from slipway_logs.times import iso_utc
from slipway_schemas.logs import MAX_FRAME_BYTES, MAX_LINE_BYTES, split_lines
from tests.api.logs.harness import T0, frame

_PIECES = {
    "a": b"a", "bc": b"bc", "nl": b"\n", "cr": b"\r", "crlf": b"\r\n", "ff": b"\xff", "nel": b"\x85", "page": b"\x0c",
    "30k": b"x" * 30_000, "64k": b"y" * MAX_LINE_BYTES,
}  # fmt: skip
_SHORT = st.lists(st.sampled_from([name for name in _PIECES if not name.endswith("k")]))
_LONG = st.lists(st.sampled_from(["30k", "64k", "nl", "cr", "a"]), max_size=6).filter(
    lambda names: len(_joined(names)) <= MAX_FRAME_BYTES
)


def _joined(names: list[str]) -> bytes:
    return b"".join(_PIECES[name] for name in names)


@given(_SHORT | _LONG)
def test_lines_lose_nothing_and_are_counted(pieces: list[str]) -> None:
    payload = _joined(pieces)
    lines = split_lines(payload)
    assert b"".join(lines) == payload
    assert all(0 < len(line) <= MAX_LINE_BYTES for line in lines)
    assert count_lines(payload) == len(lines)


@given(_SHORT | _LONG, st.data())
def test_a_frame_can_be_cut_at_any_line(pieces: list[str], data: st.DataObject) -> None:
    payload = _joined(pieces)
    lines = split_lines(payload)
    if not lines:
        return
    whole = parse_request(frame([payload], 7))[0]
    at = data.draw(st.integers(0, len(lines) - 1))
    rest = whole.from_line(7 + at)
    assert rest.lines() == lines[at:]
    assert (rest.header.first, rest.end) == (7 + at, whole.end)
    assert rest.header.time_us == T0 + at
    assert rest.header.offset == sum(map(len, lines[:at]))
    assert parse_request(rest.pack()) == [rest], "its checksum and count are right"


def test_lines_end_where_the_rule_says() -> None:
    assert split_lines(b"a\rb\r\nc\n\rd") == [b"a\r", b"b\r\n", b"c\n", b"\r", b"d"]
    assert split_lines(b"x" * (MAX_LINE_BYTES + 1) + b"\n") == [b"x" * MAX_LINE_BYTES, b"x\n"]


def test_long_tails_take_linear_time() -> None:
    started = time.perf_counter()
    split_lines(b"\r" + b"x" * 130_000)
    assert time.perf_counter() - started < 0.5


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(-50, 50)), max_size=12))
def test_merged_frames_have_no_gap_no_overlap_and_rising_times(cuts: list[tuple[int, int, int]]) -> None:
    frames = [
        parse_request(frame([b"%d\n" % n for n in range(first, first + count)], first, time_us=T0 + shift))[0]
        for first, count, shift in cuts
    ]
    merged = list(in_order(frames, 3, T0))
    lines = [line for one in merged for line in one.lines()]
    assert lines == [b"%d\n" % n for n in range(3, 3 + len(lines))]
    times = [one.header.time_us + n for one in merged for n in range(one.header.lines)]
    assert times == sorted(set(times))
    assert all(moment > T0 for moment in times)


@given(st.lists(_SHORT.map(_joined).filter(bool), max_size=5))
def test_frames_are_read_back(payloads: list[bytes]) -> None:
    frames: list[Frame] = []
    first = 0
    for payload in payloads:
        frames += parse_request(frame([payload], first))
        first = frames[-1].end
    packed = b"".join(one.pack() for one in frames)
    assert list(unpack_frames(packed)) == frames
    assert parse_request(packed) == frames


def test_times_have_six_digits() -> None:
    assert iso_utc(1_704_103_200_000_000) == "2024-01-01T10:00:00.000000"
    assert iso_utc(1_704_103_200_123_456) == "2024-01-01T10:00:00.123456"
