"""Work under a lease ends in time: when it is another's, when it cannot be renewed, when the process was stopped."""

import asyncio
import time

import pytest

from slipway_builder.leasing import LeaseLost, held

SECONDS = 1.0


async def _work(renew: object, *, since: float | None = None, sleep: float = 5.0) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(LeaseLost):
        async with held(renew, SECONDS, began if since is None else since):  # type: ignore[arg-type]
            await asyncio.sleep(sleep)
    return loop.time() - began


async def test_a_lease_that_is_renewed_lasts() -> None:
    times = []

    async def renew() -> bool:
        times.append(asyncio.get_running_loop().time())
        return True

    async with held(renew, SECONDS, asyncio.get_running_loop().time()):
        await asyncio.sleep(2 * SECONDS)
    assert len(times) >= 4


async def test_work_ends_at_once_when_the_lease_is_anothers() -> None:
    async def renew() -> bool:
        return False

    assert await _work(renew) < SECONDS / 2


async def test_work_ends_before_a_lease_that_cannot_be_renewed() -> None:
    async def renew() -> bool:
        raise OSError("the database is away")

    assert await _work(renew) < SECONDS


async def test_nothing_is_done_any_more_after_a_stop() -> None:
    done = []

    async def renew() -> bool:
        return True

    async def work() -> None:
        async with held(renew, SECONDS, asyncio.get_running_loop().time()):
            time.sleep(1.5 * SECONDS)  # the whole process stands still
            await asyncio.sleep(0.001)
            done.append("a call to a target")

    with pytest.raises(LeaseLost):
        await work()
    assert done == []


async def test_what_goes_wrong_inside_is_told_as_it_is() -> None:
    async def renew() -> bool:
        return True

    with pytest.raises(TimeoutError):
        async with held(renew, SECONDS, asyncio.get_running_loop().time()), asyncio.timeout(0.01):
            await asyncio.sleep(1)
