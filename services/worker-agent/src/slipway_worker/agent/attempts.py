"""The attempts that this worker has."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import UUID

from slipway_kit.clock import Clock
from slipway_kit.logging import get_logger
from slipway_runtime.layout import AttemptLayout, volatile_root
from slipway_schemas.lifecycles import AttemptPhase
from slipway_schemas.workers import Assignment, AttemptReport, Capacity, Fact, Gpu, StopOrder
from slipway_worker.attempts.record import AttemptRecord, StopLevel, attempt_directories
from slipway_worker.attempts.runner import AttemptRunner
from slipway_worker.attempts.services import AttemptServices
from slipway_worker.machine.capacity import free_capacity, pick_gpus
from slipway_worker.machine.preemption import Notice

_LOG = get_logger()
_RESTART_SECONDS: Final = 2.0


class AttemptTable:
    """Begins attempts, takes up those of an earlier agent, and knows what they tell the scheduler."""

    def __init__(self, services: AttemptServices, clock: Clock, capacity: Capacity, gpus: tuple[Gpu, ...]) -> None:
        self._services = services
        self._clock = clock
        self._home = services.settings.home
        self._capacity = capacity
        self._gpus = gpus
        self._runners: dict[UUID, AttemptRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._notice: Notice | None = None

    def adopt(self) -> None:
        """Take up every attempt that is on disk."""
        for directory in attempt_directories(self._home):
            try:
                record = AttemptRecord.load(self._layout(directory.name))
            except FileNotFoundError:
                # Killed while it was made or deleted: nothing in it is wanted.
                self._layout(directory.name).remove()
                continue
            except ValueError as error:
                _LOG.error("attempt_record_unreadable", directory=directory.name, error=str(error))
                continue
            self._start(record)

    def accept(self, assignment: Assignment) -> None:
        """Begin an attempt; one that is known already is left as it is."""
        if assignment.attempt_id in self._runners:
            return
        document = assignment.document
        taken = [index for runner in self._runners.values() if runner.holds_slot for index in runner.record.state.gpus]
        gpus = pick_gpus(self._gpus, taken, document.spec.resources.gpus or 0)
        record = AttemptRecord.create(self._layout(str(assignment.attempt_id)), assignment, gpus)
        record.add_fact("accepted", self._clock.now())
        _LOG.info("attempt_accepted", attempt=str(assignment.attempt_id), execution=str(document.execution_id))
        self._start(record)

    def has(self, attempt_id: UUID) -> bool:
        """Whether this attempt is here."""
        return attempt_id in self._runners

    def stop(self, order: StopOrder) -> None:
        """Hand a stop order to its attempt."""
        runner = self._runners.get(order.attempt_id)
        if runner is not None:
            runner.stops.order(StopLevel(order.level), order.reason)

    def preempt(self, notice: Notice | None) -> None:
        """The machine is taken back: end every run, also those that were assigned before the scheduler knew."""
        self._notice = notice
        if notice is not None:
            for runner in self._runners.values():
                runner.stops.preempt(notice)

    def supersede(self, attempt_id: UUID) -> None:
        """Kill and clean up an attempt that is no longer this worker's."""
        runner = self._runners.pop(attempt_id, None)
        if runner is not None:
            self._keep(asyncio.create_task(runner.supersede(), name=f"supersede-{attempt_id}"))

    def facts_done(self, done: Iterable[tuple[UUID, int]]) -> None:
        """Facts that the scheduler has stored are not told again."""
        by_attempt: dict[UUID, set[int]] = {}
        for attempt_id, seq in done:
            by_attempt.setdefault(attempt_id, set()).add(seq)
        for attempt_id, seqs in by_attempt.items():
            runner = self._runners.get(attempt_id)
            if runner is not None:
                runner.facts_done(seqs)

    def facts(self) -> tuple[Fact, ...]:
        """Everything that has not been answered."""
        return tuple(fact for runner in self._runners.values() for fact in runner.record.state.facts)

    def reports(self) -> tuple[AttemptReport, ...]:
        """All attempts that are not over for the scheduler."""
        return tuple(runner.report() for runner in self._runners.values() if _is_current(runner))

    def free(self) -> Capacity:
        """What new attempts may use."""
        return free_capacity(self._capacity, [used for one in self._runners.values() if (used := one.holds_slot)])

    async def leave(self) -> None:
        """The agent ends: attempts stay as they are, for the next agent."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def _start(self, record: AttemptRecord) -> None:
        runner = AttemptRunner(record, self._services)
        self._runners[record.attempt_id] = runner
        task = runner.start()
        if self._notice is not None:
            runner.stops.preempt(self._notice)
        self._keep(task)
        task.add_done_callback(lambda ended: self._ended(runner, ended))

    def _ended(self, runner: AttemptRunner, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._runners.pop(runner.record.attempt_id, None)
            return
        _LOG.error("attempt_script_failed", attempt=str(runner.record.attempt_id), exc_info=error)
        # Everything is on disk: the script is begun again where it was.
        loop = asyncio.get_running_loop()
        loop.call_later(_RESTART_SECONDS, self._restart, runner.record)

    def _restart(self, record: AttemptRecord) -> None:
        if record.attempt_id in self._runners and record.layout.root.exists():
            self._start(record)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _layout(self, name: str) -> AttemptLayout:
        return AttemptLayout(self._home / "attempts" / name, volatile_root(self._home) / name)


def _is_current(runner: AttemptRunner) -> bool:
    state = runner.record.state
    return not state.superseded and (state.phase != AttemptPhase.ENDED or bool(state.facts))


def home_paths(home: Path) -> None:
    """Make the directories of a worker's home."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    (home / "attempts").mkdir(exist_ok=True, mode=0o700)
    (home / "cache").mkdir(exist_ok=True, mode=0o700)
