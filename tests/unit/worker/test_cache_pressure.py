"""The cache of inputs under pressure: what a live run uses stays, the rest goes by age."""

import asyncio
from pathlib import Path

from slipway_worker.cache.input_cache import CachedFile, InputCache, place


def cached(path: Path, key: str, size: int) -> CachedFile:
    path.write_bytes(key[-1:].encode() * size)
    return CachedFile(key=key, size=size, md5="", sha1="", sha256="")


async def fill(cache: InputCache, key: str, size: int) -> bool:
    """Use an entry for a moment; whether it was there."""

    async def write(path: Path) -> CachedFile:
        return cached(path, key, size)

    async with cache.entry(key, write) as (_, _, hit):
        await asyncio.sleep(0.002)
        return hit


def size_of(root: Path) -> int:
    return sum(file.stat().st_size for file in root.rglob("content"))


async def test_pinned_entries_survive_pressure_and_marks_hold(tmp_path: Path) -> None:
    cache = InputCache(tmp_path / "cache", 1000, 0.9, 0.5)

    async def write(path: Path) -> CachedFile:
        return cached(path, "pinned", 300)

    async with cache.entry("pinned", write) as (content, _, _):
        for number in range(50):
            await fill(cache, f"key-{number}", 100)
            assert size_of(tmp_path) <= 900, "above the high water mark"
        assert content.read_bytes() == b"d" * 300
        assert await fill(cache, "key-49", 100), "the newest entry was evicted"
        assert not await cache.has("key-0")
    for number in range(50, 60):
        await fill(cache, f"key-{number}", 100)
    assert not await cache.has("pinned"), "what nobody uses any more goes by age"


async def test_room_is_made_at_the_cost_of_what_nobody_uses(tmp_path: Path) -> None:
    cache = InputCache(tmp_path / "cache", 10_000, 0.9, 0.5)
    for key in ("old", "middle", "new"):
        await fill(cache, key, 100)

    async def never(path: Path) -> CachedFile:
        raise AssertionError(f"{path} is there already")

    async with cache.entry("old", never):
        assert await cache.make_room(150) == 200
        assert await cache.has("old")
        assert await cache.make_room(1) == 0


async def test_files_of_a_run_outlive_the_entry_they_came_from(tmp_path: Path) -> None:
    cache = InputCache(tmp_path / "cache", 1000, 0.9, 0.5)
    target = tmp_path / "run-input"

    async def write(path: Path) -> CachedFile:
        return cached(path, "data", 100)

    async with cache.entry("data", write) as (content, _, _):
        place(content, target)
    assert await cache.make_room(1) == 100
    assert target.read_bytes() == b"a" * 100
