"""Lines of processes keep the times at which they were read first."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from slipway_builder.targets.process.following import Follower
from slipway_builder.targets.process.replicas import LOG_FILE
from slipway_builder.targets.protocol import ReplicaLine

BEGIN = datetime(2000, 1, 1, tzinfo=UTC)


def write(folder: Path, text: bytes) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / LOG_FILE).open("ab") as log:
        log.write(text)


async def read(root: Path, count: int, known: Mapping[str, datetime] | None = None) -> list[ReplicaLine]:
    found = []
    async with asyncio.timeout(5), aclosing(Follower(root, BEGIN, known or {}).lines()) as lines:
        async for line in lines:
            found.append(line)
            if len(found) == count:
                break
    return found


async def test_lines_told_again_have_their_times(tmp_path: Path) -> None:
    write(tmp_path / "0", b"a\nb\nbegun")
    first = await read(tmp_path, 2)
    write(tmp_path / "0", b" and ended\nc\n")
    second = await read(tmp_path, 4)
    assert [line.text for line in second] == [b"a", b"b", b"begun and ended", b"c"]
    assert second[:2] == first
    assert await read(tmp_path, 4) == second
    assert (await read(tmp_path, 2, {"0": second[2].at}))[-2:] == second[2:]
    times = [line.at for line in second]
    assert times == sorted(set(times))


async def test_a_log_that_was_cut_goes_on_with_later_times(tmp_path: Path) -> None:
    write(tmp_path / "0", b"a\nb\n")
    reading = Follower(tmp_path, BEGIN, {}).lines()
    async with aclosing(reading):
        before = [await anext(reading), await anext(reading)]
        os.truncate(tmp_path / "0" / LOG_FILE, 0)
        write(tmp_path / "0", b"c\n")
        after = await anext(reading)
    assert after.text == b"c"
    assert after.at > before[-1].at


async def test_the_last_line_of_a_replica_that_is_gone_is_told(tmp_path: Path) -> None:
    write(tmp_path / "0", b"a\n")
    reading = Follower(tmp_path, BEGIN, {}).lines()
    async with aclosing(reading), asyncio.timeout(5):
        assert (await anext(reading)).text == b"a"
        write(tmp_path / "0", b"last words")
        shutil.rmtree(tmp_path / "0")
        last = await anext(reading)
        write(tmp_path / "0", b"another one\n")
        successor = await anext(reading)
    assert last.text == b"last words"
    assert successor.text == b"another one"
    assert successor.at > last.at


async def test_long_lines_are_cut_and_no_byte_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "0", b"x" * 700_000)
    parts = [line.text for line in await read(tmp_path, 8)]
    assert all(len(one) <= 65536 for one in parts)
    write(tmp_path / "0", b"\n")
    assert sum(len(line.text) for line in await read(tmp_path, 11)) == 700_000
