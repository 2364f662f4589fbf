# ruff: noqa: PTH115, PT017, RUF001
"""Archives of users: whatever is in them, nothing is written outside, and what is refused is refused quickly."""

import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_gateway.code import package_check
from slipway_schemas.lifecycles import EndReason
from slipway_worker.attempts.code_archive import unpack
from slipway_worker.attempts.outcome import AttemptFailure

EXAMPLES = 2000 if os.environ.get("SLIPWAY_CHAOS") == "full" else 150
OUTSIDE = "canary"
YAML = "valohai.yaml"

SEGMENTS = st.sampled_from(
    ["..", ".", "", "a", "b", "A", "link", "link2", "c d", "-rf", "ü", "日本", "x" * 255, "\\", "\n"]
)
PATHS = st.one_of(
    st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join),
    st.sampled_from(
        ["/etc/passwd", "../canary", "a/../../canary", "//canary", "/tmp/x", "..", ".", "/", "a/", "link/../../canary"]
    ),
    st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()),
)
TYPES = st.sampled_from(
    [
        *(tarfile.REGTYPE,) * 4,
        *(tarfile.SYMTYPE,) * 4,
        *(tarfile.LNKTYPE,) * 3,
        *(tarfile.DIRTYPE,) * 2,
        *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE),
    ]
)
MEMBERS = st.lists(st.tuples(PATHS, TYPES, PATHS, st.integers(0, 0o7777)), min_size=1, max_size=12)


def tar_of(members: list[tuple[str, bytes, str, int]]) -> bytes:
    """A tar with these members: name, type, link target, mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target, mode in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, mode
            content = b"foreign" if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder: mode, links and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (status.st_mode, 1 if path.is_dir() else status.st_nlink, content)
    return found


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MEMBERS, st.sampled_from(["tar.gz", "tar.zst"]))
def test_nothing_is_written_outside(members: list[tuple[str, bytes, str, int]], form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        around = Path(folder) / "around"
        target = around / "attempt" / "repository"
        target.mkdir(parents=True)
        target.chmod(0o777)
        (around / OUTSIDE).write_bytes(b"mine")
        (around / "attempt" / OUTSIDE).write_bytes(b"mine")
        before = {path: one for path, one in tree_of(around).items() if not path.startswith(f"{target}/")}
        archive = Path(folder) / "archive"
        plain = tar_of(members)
        archive.write_bytes(gzip.compress(plain) if form == "tar.gz" else zstandard.compress(plain))
        try:
            unpack(archive, target, form)  # type: ignore[arg-type]
        except AttemptFailure as failure:
            assert failure.reason is EndReason.CODE_UNAVAILABLE
        after = {path: one for path, one in tree_of(around).items() if not path.startswith(f"{target}/")}
        assert after == before, "something outside was written, changed or linked"
        for path in target.rglob("*"):
            if path.is_symlink():
                assert Path(os.path.realpath(path)).is_relative_to(target), f"{path} leads to {os.readlink(path)}"
            assert path.lstat().st_mode & 0o6000 == 0, f"{path} has a setuid bit"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MEMBERS)
def test_a_package_that_is_taken_can_be_unpacked_safely(members: list[tuple[str, bytes, str, int]]) -> None:
    """The gateway's check is not weaker than the worker's: what it takes has no way out, devices or links outside."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package"
        package.write_bytes(gzip.compress(tar_of([*members, (YAML, tarfile.REGTYPE, "", 0o644)])))
        try:
            package_check.check(str(package), YAML)
        except package_check.RefusedError as refused:
            assert refused.answer["message"]
            return
        for name, kind, target, _ in members:
            assert not name.startswith("/")
            assert kind not in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
            depth = os.path.normpath(name)
            assert not depth.startswith(".."), name
            if kind == tarfile.SYMTYPE:
                where = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120
                assert not where.startswith(("..", "/")), (name, target)


def checked(package: Path) -> tuple[dict[str, str], float, int]:
    """What the gateway's process says of a package, in which time, and with how much memory."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, package_check.__file__, str(package), YAML], stdout=output, stderr=subprocess.DEVNULL
        )
        peak = 0
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
                found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
                peak = max(peak, int(found[1]) * 1024 if found else 0)
            time.sleep(0.005)
        seconds = time.monotonic() - began
        output.seek(0)
        return json.loads(output.read()), seconds, peak


def packed(path: Path, members: list[tuple[str, int]]) -> Path:
    """A package of files with so many zeros each."""
    with gzip.open(path, "wb", compresslevel=1) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, _Zeros(size))
    return path


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        self._left -= count
        return b"\0" * count


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ([(YAML, 5), *((f"f{number}", 1) for number in range(10_001))], "too_many_members"),
        ([(YAML, 2 * 1024**2)], "too_large"),
    ],
)
def test_too_much_is_refused_quickly(tmp_path: Path, members: list[tuple[str, int]], code: str) -> None:
    answer, seconds, peak = checked(packed(tmp_path / "package", members))
    assert answer.get("code") == code
    assert seconds < 5, f"{seconds:.1f} s"
    assert peak < 200 * 1024**2


def test_a_bomb_is_refused_by_what_its_headers_say(tmp_path: Path) -> None:
    """A member that claims 8 GiB is refused before they are unpacked."""
    header = tarfile.TarInfo("bomb")
    header.size = 8 * 1024**3
    package = tmp_path / "package"
    package.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"\0" * 64 * 1024**2, compresslevel=1))
    answer, seconds, peak = checked(package)
    assert answer.get("code") == "too_large"
    assert seconds < 2, f"{seconds:.1f} s"
    assert peak < 200 * 1024**2


def test_a_bomb_of_gzip_ends_in_flat_memory(tmp_path: Path) -> None:
    """Padding behind the last member: 1 GiB of zeros in a megabyte."""
    empty = io.BytesIO()
    with tarfile.open(fileobj=empty, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(YAML))
    package = tmp_path / "package"
    with gzip.open(package, "wb", compresslevel=9) as file:
        file.write(empty.getvalue())
        for _ in range(1024):
            file.write(b"\0" * 1024**2)
    answer, seconds, peak = checked(package)
    assert (answer.get("code"), "16 MiB" in answer.get("message", "")) == ("invalid_package", True)
    assert seconds < 2, f"{seconds:.1f} s"
    assert peak < 200 * 1024**2


def test_ten_thousand_members_with_names_in_every_script(tmp_path: Path) -> None:
    scripts = [
        "日本語",
        "العربية",
        "עברית",
        "हिन्दी",
        "ไทย",
        "Ελληνικά",
        "кириллица",
        "한국어",
        "🚂🚃",
        "e\u0301",
        "ı",
        "ß",
    ]
    names = [f"{script}/{script}-{number}.txt" for number in range(833) for script in scripts][:9_998]
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name in [YAML, *names]:
            archive.addfile(tarfile.TarInfo(name))
    package = tmp_path / "package"
    package.write_bytes(gzip.compress(plain.getvalue(), compresslevel=1))
    answer, seconds, _ = checked(package)
    assert "yaml" in answer, answer
    target = tmp_path / "target"
    target.mkdir()
    began = time.monotonic()
    assert unpack(package, target, "tar.gz") == len(names) + 1
    print(f"{len(names) + 1} members: checked in {seconds:.1f} s, unpacked in {time.monotonic() - began:.1f} s")
    assert {path.relative_to(target).as_posix() for path in target.rglob("*.txt")} == set(names)
