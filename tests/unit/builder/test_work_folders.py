"""Folders of processes that were killed are deleted, those of living ones never."""

import os
import subprocess
import sys
import time
from pathlib import Path

from slipway_builder.work_folders import WorkFolder

_HOLDER = """
import sys, time
from pathlib import Path
from slipway_builder.work_folders import WorkFolder
folder = WorkFolder(Path(sys.argv[1]))
(folder.path / "half").write_text("x")
print(folder.path, flush=True)
time.sleep(60)
"""


async def test_only_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    theirs = Path(holder.stdout.readline().strip())
    mine = WorkFolder(tmp_path)
    (mine.path / "mine").write_text("x")
    try:
        assert await mine.sweep() == []
        assert (theirs / "half").exists()
    finally:
        holder.kill()
        holder.communicate()
    assert await WorkFolder(tmp_path).sweep() == [theirs.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.path.name, f"{mine.path.name}.lock"])
    assert (mine.path / "mine").exists()
    mine.close()
    assert list(tmp_path.iterdir()) == []


async def test_what_locks_nothing_goes_when_it_is_old(tmp_path: Path) -> None:
    for name, age in (("old", 100_000), ("new", 10)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert await WorkFolder(tmp_path).sweep() == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
