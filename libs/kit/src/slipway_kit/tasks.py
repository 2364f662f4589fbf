"""Small helpers around asyncio."""

import asyncio
import contextlib
from collections.abc import Callable
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
