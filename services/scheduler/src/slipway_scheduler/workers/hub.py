"""Who holds a sync in this process, and how such a held request is woken."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID


class WorkerHub:
    """In-process doorbells of held syncs. Other replicas are woken by NOTIFY, which rings `wake_all`."""

    def __init__(self) -> None:
        self._held: dict[UUID, set[asyncio.Event]] = {}
        self.rings = 0
        """How often anybody was rung: tells whether something may have been missed before a hold began."""

    @contextmanager
    def hold(self, worker_id: UUID) -> Iterator[asyncio.Event]:
        """Give an event that is set at each ring for this worker while the block runs."""
        event = asyncio.Event()
        events = self._held.setdefault(worker_id, set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._held.pop(worker_id, None)

    def wake(self, workers: Iterable[UUID]) -> None:
        """Ring for these workers."""
        self.rings += 1
        for worker_id in workers:
            for event in self._held.get(worker_id, ()):
                event.set()

    def wake_all(self) -> None:
        """Ring for everybody."""
        self.wake(list(self._held))
