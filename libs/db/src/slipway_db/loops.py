"""Loops drive rows to their wanted state; one poller per service asks which of them have work."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sqlalchemy import TextClause, text

from slipway_db.database import Database
from slipway_db.doorbell import Doorbell
from slipway_kit.clock import Clock, SystemClock
from slipway_kit.errors import SlipwayError
from slipway_kit.logging import get_logger
from slipway_kit.service import BackgroundTask
from slipway_kit.tasks import run_together
from slipway_schemas.health import LoopHealth

POLL_SECONDS = 1.0


class Loop(Protocol):
    """One kind of work.

    `due` is a boolean SQL expression without parameters, e.g. `text("EXISTS (SELECT FROM run WHERE state = 'new')")`.
    `channel` names the NOTIFY channel that wakes the loop at once. A loop without network calls is one transaction with
    SKIP LOCKED; one that leaves the database uses `slipway_db.leases`.
    """

    @property
    def name(self) -> str:
        """Name in logs; unique in its service."""
        ...

    @property
    def due(self) -> TextClause | None:
        """SQL that tells if rows are due; None runs the loop on each tick or at its own interval."""
        ...

    @property
    def channel(self) -> str | None:
        """NOTIFY channel that wakes this loop."""
        ...

    async def run(self) -> int:
        """Handle one batch and return how many rows that were; it is run again at once while that is not 0."""
        ...


@runtime_checkable
class TimedLoop(Loop, Protocol):
    """A loop with `due=None` and a rhythm of its own."""

    @property
    def interval(self) -> float:
        """Seconds between two runs."""
        ...


class LoopRunner:
    """Runs the loops of one service: one statement per tick for all, one task per loop.

    A slow loop holds up no other. A loop that fails is logged and keeps its cadence: it runs again at the
    next tick that finds it due.
    """

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell | None,
        loops: Sequence[Loop],
        *,
        poll_seconds: float = POLL_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        names = [loop.name for loop in loops]
        if len(set(names)) != len(names):
            raise ValueError(f"Loop names must be unique, these are not: {names}.")
        for loop in loops:
            if loop.due is not None and loop.due.compile().params:
                raise ValueError(f"The due check of loop {loop.name!r} must not have parameters.")
        self._db = db
        self._doorbell = doorbell
        self._loops = tuple(loops)
        self._poll_seconds = poll_seconds
        self._clock = clock or SystemClock()
        self._health = {loop.name: LoopHealth(name=loop.name) for loop in loops}
        self._wake = {loop.name: asyncio.Event() for loop in loops}
        self._asked = [loop for loop in loops if loop.due is not None]
        checks = ", ".join(f"({loop.due.text})" for loop in self._asked if loop.due is not None)
        self._question = text(f"SELECT {checks}") if checks else None

    def background_task(self) -> BackgroundTask:
        """The task that the supervisor runs."""
        return BackgroundTask(name="loops", run=self.run)

    def health(self) -> tuple[LoopHealth, ...]:
        """What each loop has done since the process started."""
        return tuple(self._health.values())

    def _note(self, name: str, **changes: object) -> None:
        self._health[name] = self._health[name].model_copy(update=changes)

    async def run(self) -> None:
        """Run until cancelled."""
        with contextlib.ExitStack() as subscriptions:
            for loop in self._loops:
                if self._doorbell is not None and loop.channel is not None:
                    wake = self._wake[loop.name]
                    subscriptions.callback(self._doorbell.subscribe(loop.channel, wake.set))
            await run_together([*(self._drive(loop) for loop in self._loops), self._poll()])

    async def due(self) -> list[str]:
        """Ask, in one statement, which loops have rows to handle; returns their names."""
        if self._question is None:
            return []
        async with self._db.engine.connect() as opened:
            connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
            row = (await connection.execute(self._question)).one()
        return [loop.name for loop, is_due in zip(self._asked, row, strict=True) if is_due]

    async def _poll(self) -> None:
        time = asyncio.get_running_loop().time
        ran_at = {loop.name: float("-inf") for loop in self._loops if loop.due is None}
        intervals = {loop.name: loop.interval for loop in self._loops if isinstance(loop, TimedLoop)}
        reachable = True
        while True:
            for name, last in ran_at.items():
                # Half a tick of slack, so that an interval of one tick is not stretched to two.
                if time() - last >= intervals.get(name, 0.0) - self._poll_seconds / 2:
                    ran_at[name] = time()
                    self._wake[name].set()
            try:
                due = await self.due()
                for loop in self._asked:
                    since = self._health[loop.name].due_since
                    self._note(loop.name, due_since=(since or self._clock.now()) if loop.name in due else None)
                for name in due:
                    self._wake[name].set()
                reachable = True
            except Exception as error:  # noqa: BLE001 - whatever went wrong, the cadence stays
                if reachable:
                    get_logger().warning("loop_poll_failed", schema=self._db.schema, error=str(error))
                reachable = False
            await asyncio.sleep(self._poll_seconds)

    async def _drive(self, loop: Loop) -> None:
        wake = self._wake[loop.name]
        while True:
            await wake.wait()
            wake.clear()
            try:
                while rows := await loop.run():
                    self._note(loop.name, rows=self._health[loop.name].rows + rows)
                self._note(loop.name, ran_at=self._clock.now())
            except Exception as error:  # noqa: BLE001 - one failing loop must not take its service down
                self._note(
                    loop.name,
                    failures=self._health[loop.name].failures + 1,
                    failed_at=self._clock.now(),
                    error=error.message if isinstance(error, SlipwayError) else type(error).__name__,
                )
                get_logger().exception("loop_failed", loop=loop.name, schema=self._db.schema)
                # Rings during a failure would turn it into a busy loop.
                await asyncio.sleep(self._poll_seconds)
