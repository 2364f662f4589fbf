# ruff: noqa: PTH104, PTH108, PTH211
"""A run that swaps directories for links while its outputs are collected gets no foreign byte out."""

import os
import threading
import time
from pathlib import Path

from slipway_worker.outputs.walking import FoundFile, opened, remove, walk

SWAPS = 100_000 if os.environ.get("SLIPWAY_CHAOS") == "full" else 5_000
OWN, FOREIGN = b"own", b"foreign"


def test_no_foreign_bytes_in_a_race(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").write_bytes(FOREIGN)
    root = tmp_path / "outputs"
    (root / "real" / "deep").mkdir(parents=True)
    (root / "real" / "deep" / "file").write_bytes(OWN)
    (root / "real" / "file").write_bytes(OWN)
    (root / "moving").symlink_to(foreign)
    over = threading.Event()
    swaps = 0

    def swap() -> None:
        """`moving` is the directory, then a link to a foreign one, and so on; a file does the same."""
        nonlocal swaps
        while not over.is_set():
            os.unlink(root / "moving")
            os.rename(root / "real", root / "moving")
            os.rename(root / "moving", root / "real")
            os.symlink(foreign, root / "moving")
            os.symlink(foreign / "file", root / "next")
            os.rename(root / "next", root / "file")
            (root / "next").write_bytes(OWN)
            os.rename(root / "next", root / "file")
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    read = 0
    try:
        deadline = time.monotonic() + 120
        while swaps < SWAPS and time.monotonic() < deadline:
            names = {entry.name for entry in walk(root) if isinstance(entry, FoundFile)}
            for name in {*names, "moving/file", "moving/deep/file", "file"}:
                try:
                    with opened(root, name) as descriptor:
                        content = os.read(descriptor, 100)
                except OSError:
                    continue
                assert content != FOREIGN, name
                read += content == OWN
            remove(root, "moving/file", (len(FOREIGN), 0, 0))
            assert (foreign / "file").exists()
    finally:
        over.set()
        thread.join()
    print(f"{swaps} swaps, {read} reads of own files, 0 foreign bytes")
    assert swaps >= SWAPS
    assert read > 100
