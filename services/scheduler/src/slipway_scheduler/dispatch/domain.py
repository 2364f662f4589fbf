"""The order of dispatch and the reasons for waiting: pure rules over what was read in one statement."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slipway_schemas.executions import Blocker, BlockerKind

_GIB = 1024**3


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


@dataclass(frozen=True)
class WorkerRoom:
    """A connected worker that takes work: all that it has, and what is free of it."""

    worker_id: UUID
    total: Room
    free: Room


@dataclass(frozen=True)
class FullDisk:
    """A connected worker that takes no work, because its disk is full."""

    hostname: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Placement:
    """One execution goes to one worker."""

    candidate: Candidate
    worker_id: UUID


def place(candidates: Iterable[Candidate], workers: Sequence[WorkerRoom], load: Mapping[int, int]) -> list[Placement]:
    """Bind queued executions of one environment to workers.

    Order: priority, then the owner with the least load (running + started in the last minute), then time. A run that
    fits no worker now keeps the largest worker that could take it, so that smaller ones behind it cannot starve it.
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
        worker_id = _best(free, candidate.demand)
        if worker_id is None:
            _reserve(free, total, candidate.demand)
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


def _reserve(free: dict[UUID, Room], total: Mapping[UUID, Room], demand: Demand) -> None:
    able = [worker_id for worker_id in free if total[worker_id].fits(demand)]
    if able:
        del free[max(able, key=lambda one: (free[one].slots, free[one].memory_bytes))]


@dataclass(frozen=True)
class Scene:
    """What is known about a waiting execution and its environment."""

    environment: str
    enabled: bool
    status: str
    code_missing: bool
    assigned: bool
    demand: Demand
    workers: Sequence[WorkerRoom]
    position: int | None
    quota: int
    unfinished_of_user: int
    full_disks: Sequence[FullDisk] = ()


def blockers(scene: Scene) -> tuple[Blocker, ...]:
    """Say in words why an execution waits; empty when it does not, or will go with the next dispatch."""
    if scene.status == "created":
        return _before_queue(scene)
    if scene.status != "queued" or scene.assigned:
        return ()
    name = scene.environment
    if not scene.enabled:
        return (
            Blocker(
                kind=BlockerKind.ENVIRONMENT_DISABLED,
                message=f"Environment {name} is disabled.",
                unblocks="An administrator enables it, or run the step in another environment.",
            ),
        )
    if not scene.workers and scene.full_disks:
        return tuple(_full_disk(one) for one in scene.full_disks)
    if not scene.workers:
        return (
            Blocker(
                kind=BlockerKind.NO_WORKER,
                message=f"No worker is connected to environment {name}.",
                unblocks="Start a worker with a group token of this environment.",
            ),
        )
    if not any(worker.total.fits(scene.demand) for worker in scene.workers):
        return (_too_large(scene),)
    found = _queue_blockers(scene)
    return (*found, *(_full_disk(one) for one in scene.full_disks)) if found else ()


def _full_disk(disk: FullDisk) -> Blocker:
    free, total = _gib(disk.free_bytes), _gib(disk.total_bytes)
    return Blocker(
        kind=BlockerKind.DISK_FULL,
        message=f"The disk of worker {disk.hostname} is full ({free} free of {total}), so it takes no work.",
        unblocks="It takes work again by itself when there is room: free or enlarge the worker's disk.",
        details={"hostname": disk.hostname, "free_bytes": disk.free_bytes, "total_bytes": disk.total_bytes},
    )


def _before_queue(scene: Scene) -> tuple[Blocker, ...]:
    found: list[Blocker] = []
    if scene.code_missing:
        found.append(
            Blocker(
                kind=BlockerKind.CODE_SNAPSHOT,
                message="The snapshot of the commit's code is being made.",
                unblocks="It is queued by itself once the snapshot is in the object store.",
            )
        )
    if 0 < scene.quota <= scene.unfinished_of_user:
        found.append(
            Blocker(
                kind=BlockerKind.QUOTA,
                message=f"You have {scene.unfinished_of_user} unfinished executions in environment "
                f"{scene.environment}; its limit is {scene.quota} per user.",
                unblocks="It is queued by itself when one of them ends.",
                details={"quota": scene.quota, "unfinished": scene.unfinished_of_user},
            )
        )
    return tuple(found)


def _too_large(scene: Scene) -> Blocker:
    totals = [worker.total for worker in scene.workers]
    demand = scene.demand
    misses: list[str] = []
    if demand.memory_bytes > (largest := max(room.memory_bytes for room in totals)):
        misses.append(f"needs {_gib(demand.memory_bytes)} of memory but the largest worker has {_gib(largest)}")
    if demand.cpus > (most := max(room.cpus for room in totals)):
        misses.append(f"needs {demand.cpus:g} CPUs but the largest worker has {most:g}")
    if demand.gpus > (gpus := max(room.gpus for room in totals)):
        misses.append(f"needs {demand.gpus} GPUs but the largest worker has {gpus}")
    return Blocker(
        kind=BlockerKind.RESOURCES,
        message=f"The step {' and '.join(misses) or 'needs more than any single worker has'} "
        f"in environment {scene.environment}.",
        unblocks="Ask for less in the step's resources, choose a larger environment, or connect a larger worker.",
    )


def _queue_blockers(scene: Scene) -> tuple[Blocker, ...]:
    found: list[Blocker] = []
    if scene.position is not None and scene.position > 1:
        found.append(
            Blocker(
                kind=BlockerKind.QUEUE,
                message=f"{scene.position - 1} executions are before it in environment {scene.environment}.",
                unblocks="They start first, unless its priority is raised.",
            )
        )
    slots = sum(worker.total.slots for worker in scene.workers)
    if not any(worker.free.slots > 0 for worker in scene.workers):
        found.append(
            Blocker(
                kind=BlockerKind.NO_FREE_SLOT,
                message=f"All {slots} slots of environment {scene.environment} are busy.",
                unblocks="It starts when a run ends, or another worker connects.",
                details={"slots": slots},
            )
        )
    elif not any(worker.free.fits(scene.demand) for worker in scene.workers):
        found.append(
            Blocker(
                kind=BlockerKind.RESOURCES,
                message=f"The free slots of environment {scene.environment} have too little memory, CPUs or GPUs left.",
                unblocks="It starts when a run ends that holds enough of them.",
            )
        )
    return tuple(found)


def _gib(size: int) -> str:
    return f"{size / _GIB:.3g} GiB"
