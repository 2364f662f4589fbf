"""Why an execution waits, in words that a person can act on."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from slipway_scheduler.dispatch.domain.fitting import misfit
from slipway_scheduler.dispatch.domain.order import Demand, WorkerRoom, without_failed
from slipway_schemas.executions import Blocker, BlockerKind
from slipway_schemas.workers import Refusal

NAMED = 5
"""How many workers a sentence names; the others are counted."""


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


def _executions(count: int) -> str:
    return "1 execution is" if count == 1 else f"{count} executions are"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
