"""Group commit: take what is there now, handle it in one go, meanwhile collect the next batch. No timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Hands items to `handle` in batches and gives each submitter its own result.

    Two items of one key are never in the same batch. When a batch fails its items are tried one by one, so that one bad
    item fails alone.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        key: Callable[[T], Hashable],
        limit: int = 200,
    ) -> None:
        self._handle = handle
        self._key = key
        self._limit = limit
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Have an item handled with the next batch; raises what handling it raised."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="group commit")
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            if not batch:
                continue
            try:
                await self._settle(batch)
            except BaseException:
                for _, future in batch:
                    future.cancel()
                raise

    def _next_batch(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        later: list[tuple[T, asyncio.Future[R]]] = []
        keys: set[Hashable] = set()
        while self._waiting and len(batch) < self._limit:
            item, future = self._waiting.popleft()
            if future.done():
                continue  # whoever asked has gone
            if (key := self._key(item)) in keys:
                later.append((item, future))
                continue
            keys.add(key)
            batch.append((item, future))
        self._waiting.extendleft(reversed(later))
        return batch

    async def _settle(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._handle([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is handed to those who asked
            if len(batch) == 1:
                if not batch[0][1].done():
                    batch[0][1].set_exception(error)
                return
            for one in batch:
                await self._settle([one])
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
