"""The loop that keeps scheduler and worker in agreement."""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from slipway_kit.errors import SlipwayError, Unauthorized
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_schemas.workers import SyncAnswer, SyncRequest, WorkerRegister
from slipway_worker.agent.attempts import AttemptTable
from slipway_worker.agent.scheduler_client import SchedulerClient

_LOG = get_logger()
_HELD_SECONDS: Final = 20.0
_GATHER_SECONDS: Final = 0.002
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 3.0


class WorkerAgent:
    """Registers, then syncs for ever: one request at a time, held by the scheduler while nothing is new.

    A held request is dropped when something is new here: what it would have said is said by the next one.
    While there are attempts a request is held for the renewal interval at most, because it renews their leases.
    """

    def __init__(
        self, scheduler: SchedulerClient, attempts: AttemptTable, wake: asyncio.Event, who: Callable[[], WorkerRegister]
    ) -> None:
        self._scheduler = scheduler
        self._attempts = attempts
        self._wake = wake
        self._who = who
        self._draining = False
        self._lost: frozenset[UUID] = frozenset()
        self.synced = False
        """Whether the scheduler has answered the last request."""

    async def run(self) -> None:
        """Take up what is on disk, then register and sync until cancelled. Runs are left to their shims then."""
        self._attempts.adopt()
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    if self._scheduler.identity is None:
                        await self._register()
                    await self._sync()
                except SlipwayError as error:
                    self.synced = False
                    _LOG.warning("sync_failed", error=error.message, code=error.code)
                    await asyncio.sleep(0 if isinstance(error, Unauthorized) and pause == _FIRST_PAUSE else pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                else:
                    pause = _FIRST_PAUSE
        finally:
            await self._attempts.leave()

    async def _register(self) -> None:
        identity = await self._scheduler.register(self._who())
        _LOG.info("worker_registered", worker=str(identity.worker_id), environment=identity.environment_slug)

    async def _sync(self) -> None:
        self._wake.clear()
        request = self._request()
        held = asyncio.create_task(self._scheduler.sync(request), name="sync")
        try:
            if request.wait_seconds:
                news = asyncio.create_task(self._news(), name="news")
                try:
                    await asyncio.wait({held, news}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await cancel_and_wait(news)
                if not held.done():
                    return
            answer = await held
        finally:
            await cancel_and_wait(held)
        self.synced = True
        self._apply(answer)

    async def _news(self) -> None:
        await self._wake.wait()
        await asyncio.sleep(_GATHER_SECONDS)

    def _request(self) -> SyncRequest:
        facts = self._attempts.facts()
        reports = self._attempts.reports()
        identity = self._scheduler.identity
        renew = identity.renew_seconds if identity is not None else _HELD_SECONDS
        held = min(renew, _HELD_SECONDS) if reports else _HELD_SECONDS
        free = self._attempts.free()
        if self._draining:
            free = free.model_copy(update={"slots": 0})
        return SyncRequest(
            free=free,
            attempts=reports,
            facts=facts,
            lost=tuple(sorted(self._lost)),
            draining=self._draining,
            # The first answer comes at once: until then the worker does not count as ready.
            wait_seconds=held if self.synced and not facts else 0.0,
        )

    def _apply(self, answer: SyncAnswer) -> None:
        if answer.drain != self._draining:
            self._draining = answer.drain
            _LOG.info("worker_draining" if answer.drain else "worker_resumed")
        # Asked again at each answer, so what was said here needs no memory.
        lost = frozenset(one for one in answer.missing if not self._attempts.has(one))
        if lost:
            _LOG.warning("attempts_missing", attempts=[str(one) for one in sorted(lost)])
            self._wake.set()
        self._lost = lost
        self._attempts.facts_done(answer.facts_done)
        for attempt_id in answer.superseded:
            self._attempts.supersede(attempt_id)
        for order in answer.stops:
            self._attempts.stop(order)
        for assignment in answer.assignments:
            self._attempts.accept(assignment)
        if answer.assignments:
            self._wake.set()
