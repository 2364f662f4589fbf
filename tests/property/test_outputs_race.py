"""A run that swaps directories for links while its outputs are collected gets no foreign byte out."""

import os
import subprocess
import sys
from pathlib import Path

from slipway_worker.outputs.walking import FoundFile, opened, remove, walk

SWAPS = 100_000 if os.environ.get("SLIPWAY_CHAOS") == "full" else 2_000
OWN, FOREIGN = b"own", b"foreign"

SWAPPER = """
import os, sys
root, foreign, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(root)
for _ in range(count):
    # `moving` is a directory, then a link to a foreign one, and so on; a file does the same.
    os.unlink("moving")
    os.rename("real", "moving")
    os.rename("moving", "real")
    os.symlink(foreign, "moving")
    os.symlink(foreign + "/file", "next")
    os.rename("next", "file")
    with open("next", "wb") as file:
        file.write(b"own")
    os.rename("next", "file")
"""


def test_no_foreign_bytes_in_a_race(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "file").write_bytes(FOREIGN)
    root = tmp_path / "outputs"
    (root / "real" / "deep").mkdir(parents=True)
    (root / "real" / "deep" / "file").write_bytes(OWN)
    (root / "real" / "file").write_bytes(OWN)
    (root / "moving").symlink_to(foreign)
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, str(root), str(foreign), str(SWAPS)])
    read = refused = 0
    try:
        while swapper.poll() is None:
            names = {entry.name for entry in walk(root) if isinstance(entry, FoundFile)}
            for name in {*names, "moving/file", "moving/deep/file", "file"}:
                try:
                    with opened(root, name) as descriptor:
                        content = os.read(descriptor, 100)
                except OSError:
                    refused += 1
                    continue
                assert content != FOREIGN, name
                read += content == OWN
            remove(root, "moving/file", (len(FOREIGN), 0, 0))
            assert (foreign / "file").exists()
    finally:
        swapper.kill()
        code = swapper.wait()
    print(f"{SWAPS} swaps, {read} reads of own files, {refused} refused, 0 foreign bytes")
    assert code == 0
    assert read > 10
    assert refused > 10
