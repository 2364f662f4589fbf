"""What is remembered and said of outputs: the ledger, the progress, names and properties that cannot be stored."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway_kit.ids import new_id
from slipway_schemas.attempts import OutputFile
from slipway_worker.outputs.ledger import UploadedOutput, UploadLedger
from slipway_worker.outputs.progress import UploadProgress, bytes_in_words
from slipway_worker.outputs.sidecars import read_properties, sidecars_of
from slipway_worker.outputs.walking import FoundFile, SkippedEntry, walk


def uploaded(name: str, version: tuple[int, int, int] = (1, 2, 3)) -> UploadedOutput:
    file = OutputFile(datum_id=new_id(), name=name, size=version[0], md5="", sha1="", sha256="")
    return UploadedOutput(file=file, version=version, live=False)


def found(name: str, version: tuple[int, int, int] = (1, 2, 3)) -> FoundFile:
    return FoundFile(name, *version, writable=True)


def test_what_the_store_lost_is_uploaded_again_also_after_a_restart(tmp_path: Path) -> None:
    ledger = UploadLedger(tmp_path / "ledger")
    kept, lost = uploaded("kept"), uploaded("lost")
    ledger.write([kept, lost])
    ledger.forget({lost.file.datum_id})
    for one in (ledger, UploadLedger(tmp_path / "ledger")):
        assert one.find(found("kept")) == kept
        assert one.find(found("kept", (1, 2, 4))) is None
        assert one.find(found("lost")) is None
        assert one.names() == {"kept"}
        assert one.unregistered() == [kept]


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def test_the_progress_tells_the_first_wait_and_the_next_try() -> None:
    clock, rings = Clock(), []
    progress = UploadProgress(clock, lambda: rings.append(1))
    assert progress.sentence() == ""
    progress.left({"a": 1_500_000, "b": 500_000_000}, uploaded=2)
    assert progress.sentence() == "uploading outputs: 2 uploaded, 2 left (501.5 MB)"
    progress.waits("a", "the store", "refused", 20)
    clock.at += timedelta(seconds=30)
    progress.waits("a", "the store", "still refused", 20)
    progress.waits("b", "the store", "also refused", 5)
    assert progress.sentence() == (
        "waiting for the store since 12:00:00 UTC, next try at 12:00:35 UTC; 2 uploaded, 2 left (501.5 MB): "
        "still refused"
    )
    progress.goes_on("a")
    progress.goes_on("b")
    progress.uploaded("a")
    assert progress.sentence() == "uploading outputs: 3 uploaded, 1 left (500.0 MB)"
    assert len(rings) == 4, "the scheduler hears of each begin and end, and not of every try"


def test_bytes_in_words() -> None:
    assert [bytes_in_words(n) for n in (0, 999, 1000, 1_260_000, 7 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.3 MB",
        "7000.0 TB",
    ]


def test_names_that_cannot_be_keys_are_skipped(tmp_path: Path) -> None:
    for name in ("fine", "two\nlines", "bell\a"):
        (tmp_path / name).write_bytes(b"")
    deep = tmp_path.joinpath(*["d" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "x").write_bytes(b"")
    entries = list(walk(tmp_path))
    assert [one.name for one in entries if isinstance(one, FoundFile)] == ["fine"]
    assert sorted(one.why for one in entries if isinstance(one, SkippedEntry)) == [
        "a file name has between 1 and 800 bytes",
        "the file name 'bell\\x07' has control characters",
        "the file name 'two\\nlines' has control characters",
    ]


def test_properties_that_cannot_be_stored_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.metadata.json").write_text('{"x": {"y": ["\\u0000"]}}')
    (tmp_path / "b.metadata.json").write_text('{"x": "\\ud800"}')
    (tmp_path / "c.metadata.json").write_text('{"x": "\\\\u0000 is fine", "y": "\\ud83d\\ude00"}')
    (tmp_path / "d.metadata.json").write_text("[" * 100_000)
    names = {"a", "b", "c", "d"}
    properties = read_properties(tmp_path, sidecars_of({f"{name}.metadata.json" for name in names}, names))
    assert properties.by_name == {"c": {"x": "\\u0000 is fine", "y": "\N{GRINNING FACE}"}}
    assert len(properties.warnings) == 3
    lines = [{"file": "a", "metadata": {"k": 1}}, {"file": "b", "metadata": {"\0": 1}}]
    (tmp_path / "valohai.metadata.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read_properties(tmp_path, {"valohai.metadata.jsonl"}).by_name == {"a": {"k": 1}}
