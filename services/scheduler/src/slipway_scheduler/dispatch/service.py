"""Use cases of dispatch: hand out one batch, and explain why an execution waits."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import notify
from slipway_kit.errors import NotFound
from slipway_scheduler.channels import WORKERS
from slipway_scheduler.dispatch.domain import Demand, Placement, Scene, blockers, place
from slipway_scheduler.dispatch.estimate import estimate_start
from slipway_scheduler.dispatch.store import DispatchStore
from slipway_schemas.executions import BlockerKind, StartEstimate, Waiting
from slipway_schemas.lifecycles import ExecutionStatus

BATCH = 500
_GOES_BY_ITSELF = frozenset(
    {BlockerKind.QUEUE, BlockerKind.NO_FREE_SLOT, BlockerKind.WORKERS_REFUSE, BlockerKind.WORKER_AVOIDED}
)


class DispatchService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, lease_seconds: float) -> None:
        self._session = session
        self._store = DispatchStore(session)
        self._lease_seconds = lease_seconds

    async def dispatch(self) -> set[UUID]:
        """Bind what waits to workers with room, for all environments at once; returns the workers to be told."""
        await self._store.take_turn()
        placements: list[Placement] = []
        for environment in await self._store.environments():
            slots = sum(max(0, worker.free.slots) for worker in environment.workers)
            if slots == 0:
                continue
            candidates = await self._store.candidates(environment, min(slots, BATCH))
            shared = len({candidate.owner_id for candidate in candidates}) > 1
            load = await self._store.load(environment.environment_id) if shared else {}
            placements += place(candidates, environment.workers, load)
        if not placements:
            return set()
        bound = await self._store.bind(placements, self._lease_seconds)
        if bound:
            await notify(self._session, WORKERS)
        return {one.worker_id for one in bound}

    async def waiting(self, execution_id: UUID) -> Waiting:
        """Say why an execution waits and where it stands. Raises `NotFound`."""
        row = await self._store.scene(execution_id)
        if row is None:
            raise NotFound(f"There is no execution {execution_id}.")
        status = ExecutionStatus(row["status"])
        if status not in {ExecutionStatus.CREATED, ExecutionStatus.QUEUED}:
            return Waiting(status=status, detail=row["detail"] or "")
        queued = status is ExecutionStatus.QUEUED and not row["assigned"]
        workers = await self._store.workers_of(row["environment_id"])
        others, ever_had_worker = await self._store.others(
            row["environment_id"], {worker.worker_id for worker in workers}
        )
        scene = Scene(
            environment=row["environment_name"],
            enabled=row["enabled"],
            status=status.value,
            code_missing=row["code_missing"],
            assigned=row["assigned"],
            demand=Demand(row["cpus"], row["memory_bytes"], row["gpus"]),
            workers=workers,
            position=row["position"] if queued else None,
            quota=row["quota"],
            unfinished_of_user=row["unfinished"],
            others=others,
            ever_had_worker=ever_had_worker,
            avoid=tuple(row["avoid"] or ()),
        )
        found = blockers(scene)
        return Waiting(
            status=status,
            position=scene.position,
            queue_length=row["length"] if queued else None,
            since=row["queued_at"] or row["created_at"],
            blockers=found,
            estimate=await self._estimate(row["environment_id"], scene, {one.kind for one in found}),
            failed_attempt=await self._store.failed_attempt(execution_id),
        )

    async def _estimate(self, environment_id: UUID, scene: Scene, kinds: set[BlockerKind]) -> StartEstimate | None:
        if scene.position is None or not kinds or not kinds <= _GOES_BY_ITSELF:
            return None
        running, finished = await self._store.runs(environment_id)
        slots = sum(worker.total.slots for worker in scene.workers)
        return estimate_start(scene.position, slots, running, finished)
