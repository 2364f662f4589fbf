"""Orders that an attempt shall end: taken at any time, handed to whoever looks after the run."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from slipway_kit.clock import Clock
from slipway_kit.tasks import cancel_and_wait
from slipway_runtime.layout import ShimSpec
from slipway_runtime.runtimes.protocol import RunHandle
from slipway_schemas.lifecycles import EndReason
from slipway_worker.attempts.plan import ladder_within
from slipway_worker.attempts.record import AttemptRecord, StopLevel
from slipway_worker.machine.preemption import Notice
from slipway_worker.shim.client import ShimHandle, ShimUnreachable

_RETRY_SECONDS: Final = 0.5
_KILL_SECONDS: Final = 30.0

R = TypeVar("R")


class Stopped(Exception):
    """A stop came before the work was done."""


class StopOrders:
    """What was asked for, and how far it was acted on: `record.state.stop_level` is what was."""

    def __init__(
        self,
        record: AttemptRecord,
        handle: Callable[[], RunHandle],
        say: Callable[[str], None],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._record = record
        self._handle = handle
        self._say = say
        self._clock = clock
        self._wake = wake
        self._came = asyncio.Event()
        self._wanted = record.state.stop_level
        self._notice: Notice | None = None

    @property
    def wanted(self) -> StopLevel:
        """The highest level that was asked for."""
        return self._wanted

    def order(self, level: StopLevel, reason: EndReason) -> None:
        """Have the run ended: the graceful ladder, or now. The first reason counts."""
        if level <= self._wanted and level <= self._record.state.stop_level:
            return
        if self._record.state.stop_level == StopLevel.NONE and self._wanted == StopLevel.NONE:
            self._record.change(stop_reason=reason)
        self._wanted = max(self._wanted, level)
        self._came.set()

    def preempt(self, notice: Notice) -> None:
        """Have the run ended in the time that is left: half of it for the ladder, half for logs and outputs."""
        self._notice = notice
        self.order(StopLevel.GRACEFUL, EndReason.PREEMPTED)

    async def unless_ordered(self, work: Coroutine[Any, Any, R]) -> R:
        """Do something that a stop interrupts. Raises `Stopped` then."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._came.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            await cancel_and_wait(stopping)
            await cancel_and_wait(task)

    async def deliver(self) -> None:
        """Hand orders to whoever looks after the run, until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            while self._record.state.stop_level < self._wanted:
                level = self._wanted
                try:
                    await self._stop_run(level)
                except ShimUnreachable:
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                self._record.change(stop_level=level)
                self._wake()

    async def until_upload_is_given_up(self) -> None:
        """Wait, while outputs are uploaded, until they are not wanted any more."""
        while self._wanted < StopLevel.GIVE_UP:
            self._came.clear()
            if self._record.state.stop_level < self._wanted:
                # There is nothing left to stop; the upload goes on.
                self._record.change(stop_level=self._wanted)
            await self._came.wait()

    async def kill(self) -> None:
        """End the run of an attempt that is not this worker's any more, whatever it takes."""
        handle = self._handle()
        if not handle.alive():
            return
        with suppress(ShimUnreachable):
            await handle.kill()
        with suppress(ShimUnreachable, TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                await handle.wait()

    async def _stop_run(self, level: StopLevel) -> None:
        handle = self._handle()
        if level >= StopLevel.KILL:
            self._say("Killing the run now")
            await handle.kill()
            return
        reason = self._record.state.stop_reason
        # A second stop kills, so a stop that an earlier agent has delivered must not be repeated.
        if isinstance(handle, ShimHandle) and (await handle.status()).get("stops"):
            return
        self._say(f"Stopping the run ({reason.replace('_', ' ')})")
        if reason == EndReason.PREEMPTED and self._notice is not None:
            self._say(self._notice.text)
            if isinstance(handle, ShimHandle):
                limits = ShimSpec.read(self._record.layout.spec_file).limits
                left = (self._notice.deadline - self._clock.now()).total_seconds()
                await handle.set_limits(ladder_within(limits, left / 2))
        await handle.stop()
