"""Live streams: one reader per execution in this process, however many people watch (encode once, write to many).

A viewer reads everything that is there by itself; from then on it waits for the shared reader's ticks. A slow viewer is
behind only for itself: it reads what it missed from the tail or the archive.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_logs.ingest.hot_tail import HotTail
from slipway_logs.tail.service import TailService

_log = get_logger()

_REFRESH_SECONDS = 0.5
"""How often the status and the current attempt of a watched execution are looked up."""


class Watch:
    """The ticks of one execution: `changed` is set and replaced whenever there may be something new."""

    def __init__(self) -> None:
        self.viewers = 0
        self.changed = asyncio.Event()
        self.final = False
        self.task: asyncio.Task[None] | None = None

    def tick(self) -> None:
        event, self.changed = self.changed, asyncio.Event()
        event.set()


class TailHub:
    """Wakes the viewers of executions."""

    def __init__(self, tail: HotTail, service: TailService) -> None:
        self._tail = tail
        self._service = service
        self._watches: dict[UUID, Watch] = {}

    @asynccontextmanager
    async def watching(self, execution_id: UUID) -> AsyncIterator[Watch]:
        """Watch an execution inside the block."""
        watch = self._watches.setdefault(execution_id, Watch())
        watch.viewers += 1
        if watch.task is None:
            watch.task = asyncio.create_task(self._follow(execution_id, watch), name=f"tail:{execution_id}")
        try:
            yield watch
        finally:
            watch.viewers -= 1
            if watch.viewers == 0:
                self._watches.pop(execution_id, None)
                await cancel_and_wait(watch.task)

    async def _follow(self, execution_id: UUID, watch: Watch) -> None:
        while True:
            try:
                # The status first: whatever was printed before it turned final is read after it was seen.
                final = await self._service.is_final(execution_id)
                attempts = [] if final else await self._service.attempts(execution_id)
                running = next((attempt for attempt in reversed(attempts) if not attempt.ended), None)
                if final:
                    watch.final = True
                    watch.tick()
                    return
                if running is None:
                    await asyncio.sleep(_REFRESH_SECONDS)
                    watch.tick()
                else:
                    await self._tick_while_lines_come(running.id, watch)
            except (RedisError, SQLAlchemyError, SlipwayError, OSError) as error:
                _log.warning("tail_follow_failed", execution_id=str(execution_id), error=str(error))
                await asyncio.sleep(_REFRESH_SECONDS)

    async def _tick_while_lines_come(self, attempt_id: UUID, watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _REFRESH_SECONDS
        seen = await self._seen(attempt_id)
        watch.tick()
        while (left := end - loop.time()) > 0:
            if await self._tail.wait(attempt_id, seen, max(int(left * 1000), 1)):
                seen = await self._seen(attempt_id)
                watch.tick()

    async def _seen(self, attempt_id: UUID) -> int:
        position = await self._tail.position(attempt_id)
        return position.next if position is not None else 0
