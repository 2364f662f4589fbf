"""The order of dispatch: pure rules over what was read in one statement."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class Demand:
    """What a run takes of a worker besides one slot; 0 = nothing in particular."""

    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Room:
    """What a worker has, or has free."""

    slots: int
    cpus: float
    memory_bytes: int
    gpus: int

    def fits(self, demand: Demand) -> bool:
        """Whether one more run of this demand fits."""
        return (
            self.slots >= 1
            and self.cpus >= demand.cpus
            and self.memory_bytes >= demand.memory_bytes
            and self.gpus >= demand.gpus
        )

    def minus(self, demand: Demand) -> "Room":
        """What is left once a run of this demand is placed."""
        return Room(
            self.slots - 1, self.cpus - demand.cpus, self.memory_bytes - demand.memory_bytes, self.gpus - demand.gpus
        )


@dataclass(frozen=True)
class Candidate:
    """A queued execution."""

    execution_id: UUID
    priority: int
    owner_id: int
    queued_at: datetime
    demand: Demand
    avoid: tuple[UUID, ...] = ()
    """Workers on which earlier attempts of it failed, oldest first."""


@dataclass(frozen=True)
class WorkerRoom:
    """A connected worker that takes work: all that it has, and what is free of it."""

    worker_id: UUID
    total: Room
    free: Room


@dataclass(frozen=True)
class Placement:
    """One execution goes to one worker."""

    candidate: Candidate
    worker_id: UUID


def place(candidates: Iterable[Candidate], workers: Sequence[WorkerRoom], load: Mapping[int, int]) -> list[Placement]:
    """Bind queued executions of one environment to workers.

    Order: priority, then the owner with the least load (running + started in the last minute), then time. A run that
    fits no worker now keeps the largest worker that could take it, so that smaller ones behind it cannot starve it.
    What failed on a worker before goes to another one where there is one that could take it.
    """
    free = {worker.worker_id: worker.free for worker in workers}
    total = {worker.worker_id: worker.total for worker in workers}
    lanes = _lanes(candidates)
    owners = Counter(dict(load))
    placements: list[Placement] = []
    while lanes and any(room.slots > 0 for room in free.values()):
        top = max(priority for priority, _ in lanes)
        lane = min((key for key in lanes if key[0] == top), key=lambda key: (owners[key[1]], lanes[key][-1].queued_at))
        candidate = lanes[lane].pop()
        if not lanes[lane]:
            del lanes[lane]
        allowed = without_failed(total, candidate.demand, candidate.avoid)
        worker_id = _best({one: room for one, room in free.items() if one in allowed}, candidate.demand)
        if worker_id is None:
            _reserve(free, allowed)
            continue
        free[worker_id] = free[worker_id].minus(candidate.demand)
        owners[candidate.owner_id] += 1
        placements.append(Placement(candidate, worker_id))
    return placements


def _lanes(candidates: Iterable[Candidate]) -> dict[tuple[int, int], list[Candidate]]:
    lanes: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: (one.queued_at, one.execution_id), reverse=True):
        lanes.setdefault((candidate.priority, candidate.owner_id), []).append(candidate)
    return lanes


def _best(free: Mapping[UUID, Room], demand: Demand) -> UUID | None:
    fitting = [worker_id for worker_id, room in free.items() if room.fits(demand)]
    if not fitting:
        return None
    # GPUs are spared for those who ask for them; else the load is spread.
    return max(fitting, key=lambda one: (-free[one].gpus if demand.gpus == 0 else 0, free[one].slots, free[one].cpus))


def without_failed(total: Mapping[UUID, Room], demand: Demand, avoid: Sequence[UUID]) -> set[UUID]:
    """Workers that are large enough, without those that failed: the one that failed longest ago is the first to be
    forgiven when no other is left."""
    able = {worker_id for worker_id, room in total.items() if room.fits(demand)}
    for forgiven in range(len(avoid) + 1):
        left = able.difference(avoid[forgiven:])
        if left:
            return left
    return able


def _reserve(free: dict[UUID, Room], allowed: set[UUID]) -> None:
    able = [worker_id for worker_id in free if worker_id in allowed]
    if able:
        del free[max(able, key=lambda one: (free[one].slots, free[one].memory_bytes))]
