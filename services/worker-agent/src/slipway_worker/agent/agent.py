"""The loop that keeps scheduler and worker in agreement."""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from slipway_kit.clock import Clock
from slipway_kit.errors import SlipwayError, Unauthorized
from slipway_kit.logging import get_logger
from slipway_kit.tasks import cancel_and_wait
from slipway_schemas.workers import DiskReport, Refusal, SyncAnswer, SyncRequest, WorkerRegister
from slipway_worker.agent.attempts import AttemptTable
from slipway_worker.agent.scheduler_client import SchedulerClient
from slipway_worker.cache.input_cache import InputCache
from slipway_worker.machine.disk import Disk, gib
from slipway_worker.machine.preemption import Notice

_LOG = get_logger()
_HELD_SECONDS: Final = 20.0
_GATHER_SECONDS: Final = 0.002
_DISK_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0


class WorkerAgent:
    """Registers, then syncs for ever: one request at a time, held by the scheduler while nothing is new.

    A held request is dropped when something is new here: what it would have said is said by the next one.
    While there are attempts a request is held for the renewal interval at most, because it renews their leases.
    """

    def __init__(
        self,
        scheduler: SchedulerClient,
        attempts: AttemptTable,
        wake: asyncio.Event,
        who: Callable[[], WorkerRegister],
        clock: Clock,
        disk: Disk,
        cache: InputCache,
    ) -> None:
        self._scheduler = scheduler
        self._attempts = attempts
        self._wake = wake
        self._who = who
        self._clock = clock
        self._disk = disk
        self._cache = cache
        self._disk_full = False
        self._draining = False
        self._notice: Notice | None = None
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

    def preempt(self, notice: Notice | None) -> None:
        """The machine is taken back: take nothing new, end every run in time. None: it is not, after all."""
        self._notice = notice
        if notice is not None:
            _LOG.warning("worker_preempted", notice=notice.text)
        else:
            _LOG.info("preemption_withdrawn")
        self._attempts.preempt(notice)
        self._wake.set()

    async def _register(self) -> None:
        identity = await self._scheduler.register(self._who())
        self._draining = False
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
        """Wait for something to say: of the attempts, or that the disk has become full or has room again."""
        while True:
            try:
                async with asyncio.timeout(_DISK_SECONDS):
                    await self._wake.wait()
                    break
            except TimeoutError:
                before = self._disk_full
                disk = self._disk_report()
                if disk is not None and disk.full:
                    # The cache is a help, not a reason to refuse work.
                    await self._cache.make_room(self._disk.mark(disk.total_bytes) - disk.free_bytes)
                if self._disk_full != before:
                    break
        await asyncio.sleep(_GATHER_SECONDS)

    def _request(self) -> SyncRequest:
        facts = self._attempts.facts()
        reports = self._attempts.reports()
        identity = self._scheduler.identity
        renew = identity.renew_seconds if identity is not None else _HELD_SECONDS
        held = min(renew, _HELD_SECONDS) if reports else _HELD_SECONDS
        free = self._attempts.free()
        disk = self._disk_report()
        refusal, message = self._refusal(disk)
        if refusal is not None:
            free = free.model_copy(update={"slots": 0})
        return SyncRequest(
            free=free,
            attempts=reports,
            facts=facts,
            draining=self._draining or self._notice is not None,
            refusal=refusal,
            refusal_message=message,
            at=self._clock.now(),
            disk=disk,
            lost=tuple(sorted(self._lost)),
            # The first answer comes at once: until then the worker does not count as ready.
            wait_seconds=held if self.synced and not facts else 0.0,
        )

    def _refusal(self, disk: DiskReport | None) -> tuple[Refusal | None, str]:
        """Why nothing new is taken, if so."""
        if self._notice is not None:
            return Refusal.PREEMPTED, self._notice.text
        if self._draining:
            return Refusal.DRAINING, "It was asked to finish what it has and take no more."
        if disk is not None and disk.full:
            return Refusal.DISK, f"Its disk is full: {gib(disk.free_bytes)} free of {gib(disk.total_bytes)}."
        return None, ""

    def _disk_report(self) -> DiskReport | None:
        try:
            disk = self._disk.report()
        except OSError as error:
            _LOG.warning("disk_not_read", error=str(error))
            return None
        if disk.full != self._disk_full:
            self._disk_full = disk.full
            _LOG.warning(
                "worker_disk_full" if disk.full else "worker_disk_has_room",
                free_bytes=disk.free_bytes,
                total_bytes=disk.total_bytes,
            )
        return disk

    def _apply(self, answer: SyncAnswer) -> None:
        # The order is given until it shows in the request; it ends with the next registration.
        if answer.drain and not self._draining:
            self._draining = True
            _LOG.info("worker_draining")
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
