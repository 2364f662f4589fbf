"""The order of dispatch and the reasons for waiting: pure rules over what was read in one statement."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from slipway_schemas.executions import Blocker, BlockerKind
from slipway_schemas.workers import Refusal

NAMED = 5
"""How many workers a sentence names; the others are counted."""
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


@dataclass(frozen=True)
class OtherWorker:
    """A worker that takes no work now."""

    id: UUID
    hostname: str
    refusal: Refusal | None
    """None: it is not heard of."""
    message: str
    last_seen: str


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
    others: Sequence[OtherWorker] = ()
    ever_had_worker: bool = True
    avoid: tuple[UUID, ...] = ()


def blockers(scene: Scene) -> tuple[Blocker, ...]:
    """Say in words why an execution waits; empty when it does not, or will go with the next dispatch."""
    if scene.status == "created":
        return _before_queue(scene)
    if scene.status != "queued" or scene.assigned:
        return ()
    if not scene.enabled:
        return (
            Blocker(
                kind=BlockerKind.ENVIRONMENT_DISABLED,
                message=f"Environment {scene.environment} is disabled.",
                unblocks="An administrator enables it, or run the step in another environment.",
            ),
        )
    if not scene.workers:
        return (_no_worker(scene), *_refusals(scene))
    missing = misfit(scene.demand, [worker.total for worker in scene.workers])
    if missing is not None:
        return (_too_large(scene, missing), *_refusals(scene))
    found = _queue_blockers(scene)
    return (*found, *_refusals(scene)) if found else ()


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


def _no_worker(scene: Scene) -> Blocker:
    message = f"No worker is connected to environment {scene.environment}."
    silent = [f"{one.hostname} ({one.last_seen})" for one in scene.others if one.refusal is None]
    if not scene.ever_had_worker:
        message += " It has never had one, so it is not known whether the step fits."
    elif silent:
        message += f" Last heard of: {_listed(silent)}."
    elif scene.others:
        message = f"No worker of environment {scene.environment} takes work now."
    return Blocker(
        kind=BlockerKind.NO_WORKER,
        message=message,
        unblocks="Start a worker with a group token of this environment.",
    )


def _refusals(scene: Scene) -> tuple[Blocker, ...]:
    refusing = [one for one in scene.others if one.refusal is not None]
    if not refusing:
        return ()
    listed = _listed([f"{one.hostname} ({one.message or one.refusal})" for one in refusing])
    return (
        Blocker(
            kind=BlockerKind.WORKERS_REFUSE,
            message=f"Connected, but taking nothing new: {listed}.",
            unblocks="It can start on them once they take work again.",
            details={"workers": {one.hostname: str(one.refusal) for one in refusing[:NAMED]}},
        ),
    )


def _too_large(scene: Scene, missing: str) -> Blocker:
    return Blocker(
        kind=BlockerKind.RESOURCES,
        message=f"The step {missing} in environment {scene.environment}.",
        unblocks="Ask for less in the step's resources, choose a larger environment, or connect a larger worker.",
    )


def _queue_blockers(scene: Scene) -> tuple[Blocker, ...]:
    found: list[Blocker] = []
    if scene.position is not None and scene.position > 1:
        found.append(
            Blocker(
                kind=BlockerKind.QUEUE,
                message=f"{_executions(scene.position - 1)} before it in environment {scene.environment}.",
                unblocks="They start first, unless its priority is raised.",
            )
        )
    slots = sum(worker.total.slots for worker in scene.workers)
    fitting = [worker for worker in scene.workers if worker.free.fits(scene.demand)]
    allowed = without_failed({one.worker_id: one.total for one in scene.workers}, scene.demand, scene.avoid)
    if not any(worker.free.slots > 0 for worker in scene.workers):
        found.append(
            Blocker(
                kind=BlockerKind.NO_FREE_SLOT,
                message=f"All {slots} slots of environment {scene.environment} are busy.",
                unblocks="It starts when a run ends, or another worker connects.",
                details={"slots": slots},
            )
        )
    elif not fitting:
        found.append(
            Blocker(
                kind=BlockerKind.RESOURCES,
                message=f"The free slots of environment {scene.environment} have too little memory, CPUs or GPUs left.",
                unblocks="It starts when a run ends that holds enough of them.",
            )
        )
    elif not any(worker.worker_id in allowed for worker in fitting):
        found.append(
            Blocker(
                kind=BlockerKind.WORKER_AVOIDED,
                message="Only workers on which it has failed before are free now.",
                unblocks="It starts when another worker has room.",
            )
        )
    return tuple(found)


def misfit(demand: Demand, sizes: Sequence[Room]) -> str | None:
    """What of a demand no worker of these sizes has, as the end of a sentence; None when one of them is large enough.

    Without a known size nothing is refused: nobody knows.
    """
    if not sizes or any(size.fits(demand) for size in sizes):
        return None
    misses: list[str] = []
    if demand.memory_bytes > (memory := max(size.memory_bytes for size in sizes)):
        misses.append(f"needs {gib(demand.memory_bytes)} of memory but the largest worker has {gib(memory)}")
    if demand.cpus > (cpus := max(size.cpus for size in sizes)):
        misses.append(f"needs {demand.cpus:g} CPUs but the largest worker has {cpus:g}")
    if demand.gpus > (gpus := max(size.gpus for size in sizes)):
        misses.append(f"needs {_counted(demand.gpus)} but the largest worker has {gpus or 'none'}")
    return " and ".join(misses) or "needs more at once than any single worker has"


def gib(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / _GIB:.3g} GiB"


def _counted(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"


def _executions(count: int) -> str:
    return "1 execution is" if count == 1 else f"{count} executions are"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
