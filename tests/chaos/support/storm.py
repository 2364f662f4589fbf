"""The storm itself: clients at work while a seeded schedule of signals falls on the platform."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import Signals

from slipway_kit.tasks import cancel_and_wait
from tests.chaos.support.clients import Clients, Seen
from tests.chaos.support.plan import MACHINE, Blow, Job, Scale
from tests.chaos.support.site import BACK_SECONDS, Site

_QUIET_SECONDS = 240.0
_PACE_SECONDS = 0.1
_LONGEST_WAIT_FOR_WORK = 20.0


@dataclass
class Struck:
    """A blow that fell."""

    blow: Blow
    at: float
    process_id: int
    running: dict[str, tuple[int, int]]
    """Shims of the attempts that ran at that moment, by attempt id."""
    back_at: float = 0.0
    touched: list[str] = field(default_factory=list)
    """Attempts whose shim was another one after it."""


@dataclass
class Weather:
    """What happened."""

    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    struck: list[Struck] = field(default_factory=list)

    @property
    def kills(self) -> Counter[str]:
        """SIGKILLs by victim."""
        return Counter(one.blow.victim for one in self.struck if one.blow.signal is Signals.SIGKILL)


class Storm:
    """Runs the clients and the blows side by side, each held back until the other has come as far."""

    def __init__(self, site: Site, clients: Clients, jobs: Sequence[Job], blows: Sequence[Blow], scale: Scale) -> None:
        self._site = site
        self._clients = clients
        self._jobs = list(jobs)
        self._blows = list(blows)
        self._scale = scale
        self.weather = Weather()
        self._struck = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until every execution was submitted, every blow has fallen, and everything has ended."""
        watcher = asyncio.create_task(self._clients.watch())
        try:
            waiting = iter(self._jobs)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._strike_all())
                for _ in range(self._scale.clients):
                    tasks.create_task(self._submit(waiting))
            await self._until_quiet(watcher)
        finally:
            await cancel_and_wait(watcher)
            for task in self._tasks:
                await cancel_and_wait(task)

    async def _submit(self, waiting: Iterator[Job]) -> None:
        for job in waiting:
            while self._clients.unfinished >= self._scale.unfinished or self._ahead(job):
                await asyncio.sleep(_PACE_SECONDS)
            seen = await self._clients.submit(job)
            if job.stop_after is not None:
                self._tasks.append(asyncio.create_task(self._stop(seen, job.stop_after)))

    def _ahead(self, job: Job) -> bool:
        """Whether the executions are further than the blows: the last of these must not fall on an idle platform."""
        if self._struck >= len(self._blows):
            return False
        return job.number > self._scale.unfinished + len(self._jobs) * (self._struck + 1) / len(self._blows)

    async def _stop(self, seen: Seen, after: float) -> None:
        await asyncio.sleep(after)
        await self._clients.stop(seen)

    async def _strike_all(self) -> None:
        for number, blow in enumerate(self._blows):
            await self._wait_for_work(number)
            await self._wait_for_process(blow.victim)
            struck = self._strike(blow)
            if struck is not None:
                self.weather.struck.append(struck)
                if blow.impatient and blow.signal is Signals.SIGKILL:
                    self._tasks.append(asyncio.create_task(self._follow(struck)))
                else:
                    await self._follow(struck)
            self._struck = number + 1
            await asyncio.sleep(blow.pause)

    async def _wait_for_work(self, number: int) -> None:
        deadline = time.monotonic() + _LONGEST_WAIT_FOR_WORK
        submitted = len(self._jobs) * number / len(self._blows)
        while time.monotonic() < deadline and len(self._clients.seen) < submitted:
            await asyncio.sleep(_PACE_SECONDS)

    async def _wait_for_process(self, victim: str) -> None:
        deadline = time.monotonic() + (0 if victim == "zygote" else BACK_SECONDS)
        while time.monotonic() < deadline and self._site.processes().get(victim) is None:
            await asyncio.sleep(_PACE_SECONDS)

    def _strike(self, blow: Blow) -> Struck | None:
        number = blow.signal
        if blow.victim == "postgres" and number is Signals.SIGTERM:
            number = Signals.SIGINT  # its fast shutdown; SIGTERM waits for clients that never leave
        running = self._site.shims()
        process_id = self._site.send(blow.victim, number)
        return None if process_id is None else Struck(blow, time.time(), process_id, running)

    async def _follow(self, struck: Struck) -> None:
        """See a victim back, and look whether what ran has noticed."""
        blow = struck.blow
        former: int | None = struck.process_id
        if blow.signal is Signals.SIGSTOP:
            await asyncio.sleep(blow.hold)
            self._site.send(blow.victim, Signals.SIGCONT)
            former = None
        struck.back_at = await self._site.wait_back(blow.victim, former)
        if blow.victim not in MACHINE:
            now = self._site.shims()
            struck.touched = [one for one, shim in struck.running.items() if now.get(one, shim) != shim]

    async def _until_quiet(self, watcher: "asyncio.Task[None]") -> None:
        deadline = time.monotonic() + _QUIET_SECONDS
        while self._clients.unfinished or any(not task.done() for task in self._tasks):
            if watcher.done():
                watcher.result()
            left = [(one.id, one.statuses[-1]) for one in self._clients.seen if not one.final]
            assert time.monotonic() < deadline, f"not at an end after {_QUIET_SECONDS:g} s of quiet: {left}"
            await asyncio.sleep(_PACE_SECONDS)
        for task in self._tasks:
            task.result()
