"""Small helpers around asyncio."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

CANCEL_AGAIN_SECONDS = 2.0


async def run_blocking(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that blocks or computes for over 2 ms in a thread; context variables go along."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; what it raises while ending is not raised here.

    A library may lose a cancellation that comes at the very end of a wait of its own, so it is said again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()


async def run_together(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all until the first one ends or fails, then end the others; raises what the first one raised.

    Unlike a TaskGroup it passes on every cancellation that it gets, also those after the first.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while waiting := [task for task in tasks if not task.done()]:
            for task in waiting:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(waiting, timeout=CANCEL_AGAIN_SECONDS)
    for task in done:
        task.result()
