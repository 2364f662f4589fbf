"""Ending tasks."""

import asyncio

import pytest

from slipway_kit import tasks


async def test_a_lost_cancellation_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.cancel_and_wait(task)
    assert lost == 1
    assert task.cancelled()


async def test_what_runs_together_ends_together_although_a_cancellation_is_lost() -> None:
    ended: list[str] = []

    async def deaf(times: int) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                times -= 1
                if times < 0:
                    ended.append("deaf")
                    raise

    async def plain() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("plain")

    both = asyncio.create_task(tasks.run_together([deaf(1), plain()]))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        both.cancel()
        await asyncio.sleep(0.01)
        assert ended == ["plain"]
        both.cancel()
        with pytest.raises(asyncio.CancelledError):
            await both
    assert ended == ["plain", "deaf"]


async def test_the_first_failure_of_what_runs_together_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await tasks.run_together([asyncio.sleep(60), fails()])
