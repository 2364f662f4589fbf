"""Use cases of dispatch: hand out one batch, and explain why an execution waits."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import notify
from slipway_kit.errors import NotFound
from slipway_scheduler.channels import WORKERS
from slipway_scheduler.dispatch.domain import Demand, Placement, Scene, blockers, place
from slipway_scheduler.dispatch.store import DispatchStore
from slipway_schemas.executions import Waiting
from slipway_schemas.lifecycles import ExecutionStatus

BATCH = 500


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
            return Waiting(status=status)
        queued = status is ExecutionStatus.QUEUED and not row["assigned"]
        scene = Scene(
            environment=row["environment_name"],
            enabled=row["enabled"],
            status=status.value,
            code_missing=row["code_missing"],
            assigned=row["assigned"],
            demand=Demand(row["cpus"], row["memory_bytes"], row["gpus"]),
            workers=await self._store.workers_of(row["environment_id"]),
            full_disks=await self._store.full_disks(row["environment_id"]),
            position=row["position"] if queued else None,
            quota=row["quota"],
            unfinished_of_user=row["unfinished"],
        )
        return Waiting(
            status=status,
            position=scene.position,
            queue_length=row["length"] if queued else None,
            since=row["queued_at"] or row["created_at"],
            blockers=blockers(scene),
        )
