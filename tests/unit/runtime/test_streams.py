"""Lines, metadata and redaction depend on the bytes, not on how they are cut."""

from slipway_runtime.lines import LineCutter
from slipway_runtime.metadata import MetadataParser
from slipway_runtime.redaction import Redactor

SECOND = 1_000_000


def test_lines_end_as_designed() -> None:
    cutter = LineCutter()
    assert [(b.data, b.lines) for b in cutter.feed(1, 0, b"a\nb\r")] == [(b"a\n", 1)]
    assert [(b.data, b.lines) for b in cutter.feed(1, 10, b"\nc\rd")] == [(b"b\r\nc\r", 2)]
    (block,) = cutter.feed(2, 10 + SECOND, b"x")
    assert (block.stream, block.data, block.complete) == (1, b"d", False)
    assert [b.data for b in cutter.flush()] == [b"x"]


def test_silence_record_cuts() -> None:
    cutter = LineCutter()
    assert cutter.feed(1, 0, b"prompt> ") == []
    assert [b.data for b in cutter.feed(1, SECOND, b"")] == [b"prompt> "]


def test_long_line_is_cut() -> None:
    blocks = LineCutter().feed(1, 0, b"x" * 150_000)
    assert [(len(b.data), b.lines) for b in blocks] == [(131_072, 2)]


def test_metadata_needs_a_whole_line() -> None:
    parser = MetadataParser()
    assert parser.feed(b'noise\n{"a": ', 0) == []
    (record,) = parser.feed(b'NaN}\n[1]\n{"b": 1', 1_500_000)
    assert record.values == {"a": "NaN", "_time": "1970-01-01T00:00:01.500000+00:00"}
    assert [r.values["b"] for r in parser.feed(b"}\n", 0)] == [1]


def test_metadata_forgets_lines_over_a_mebibyte() -> None:
    parser = MetadataParser()
    assert parser.feed(b'{"a": "' + b"x" * 1024 * 1024, 0) == []
    assert [r.values["b"] for r in parser.feed(b'"}\n{"b": 2}\n', 0)] == [2]


def test_redaction_is_the_same_for_every_cut() -> None:
    text = b"a hunter22 b hunter2 hunter hunter2222 aHVudGVyMg== end hunt"
    expected = b"a *****  b".replace(b"  ", b" ")
    whole = Redactor(["hunter2", "hunter22"])
    result = whole.feed(text) + whole.flush()
    assert result.startswith(expected)
    assert b"hunter2" not in result
    assert result.endswith(b"end hunt")
    for cut in range(len(text)):
        redactor = Redactor(["hunter2", "hunter22"])
        assert redactor.feed(text[:cut]) + redactor.feed(text[cut:]) + redactor.flush() == result
