"""Use cases of executions: create, stop, change, delete, and the writing of every transition."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db import emit, notify
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_scheduler.channels import DISPATCH, WORKERS
from slipway_scheduler.dispatch.domain import Demand, Room, misfit
from slipway_scheduler.environments.store import Environment, EnvironmentStore
from slipway_scheduler.executions.domain import (
    CodeUnavailable,
    Enqueue,
    Execution,
    Input,
    Refusal,
    Stop,
    propose,
)
from slipway_scheduler.executions.store import Change, ExecutionStore
from slipway_schemas.events import ExecutionDeleted, ExecutionStateChanged
from slipway_schemas.executions import (
    ExecutionCreated,
    ExecutionDraft,
    ExecutionPatch,
    StopAnswer,
    StopRequest,
)
from slipway_schemas.lifecycles import ExecutionStatus

PROMOTE_BATCH = 100


class ExecutionService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._store = ExecutionStore(session)
        self._environments = EnvironmentStore(session)

    async def create(self, draft: ExecutionDraft, *, actor: int | None) -> ExecutionCreated:
        """Create an execution; the same draft again gets the same answer.

        Raises `Invalid` when the environment does not exist or has no worker that is large enough, and `Conflict`
        when the id is another project's.
        """
        if (before := await self._store.existing(draft.id)) is not None:
            return _same_project(before, draft)
        environment = await self._environments.get(draft.environment_id)
        if environment is None:
            raise Invalid(
                f"There is no environment {draft.environment_id}. Choose one that exists.", field="environment"
            )
        await self._refuse_impossible(draft, environment)
        status = ExecutionStatus.QUEUED
        if draft.spec.code.archive_key is None:
            status = ExecutionStatus.CREATED
        elif environment.per_user_queue_quota > 0:
            unfinished = await self._store.lock_quota(environment.id, draft.creator_id)
            if unfinished >= environment.per_user_queue_quota:
                status = ExecutionStatus.CREATED
        counter = await self._store.insert(draft, status)
        if counter is None:
            before = await self._store.existing(draft.id)
            if before is None:
                raise Invalid("The environment was deleted meanwhile. Choose another.", field="environment")
            return _same_project(before, draft)
        await self._record_creation(draft, status, actor)
        return ExecutionCreated(id=draft.id, counter=counter, status=status)

    async def _refuse_impossible(self, draft: ExecutionDraft, environment: Environment) -> None:
        wanted, declared = draft.spec.resources, environment.settings.worker_size
        demand = Demand(wanted.cpus or 0.0, wanted.memory_bytes or 0, wanted.gpus or 0)
        if demand == Demand():
            return
        sizes = await self._environments.worker_sizes(environment.id)
        if declared is not None:
            sizes.append(Room(1, declared.cpus, declared.memory_bytes, declared.gpus))
        missing = misfit(demand, sizes)
        if missing is not None:
            raise Invalid(
                f"The step {missing} in environment {environment.name}. "
                "Ask for less in the step's resources, or choose a larger environment.",
                field="resources",
                code="unsatisfiable",
            )

    async def _record_creation(self, draft: ExecutionDraft, status: ExecutionStatus, actor: int | None) -> None:
        steps: list[tuple[ExecutionStatus | None, ExecutionStatus]] = [(None, ExecutionStatus.CREATED)]
        if status is ExecutionStatus.QUEUED:
            await self._store.enqueue([draft.id])
            steps.append((ExecutionStatus.CREATED, status))
        blank = {"id": draft.id, "reason": None, "message": "", "actor": actor, "attempt_id": None}
        await self._store.record([{**blank, "before": before, "after": after} for before, after in steps])
        events = [
            ExecutionStateChanged(execution_id=draft.id, project_id=draft.project_id, before=before, after=after)
            for before, after in steps
        ]
        await emit(self._session, *events, actor=actor)
        if status is ExecutionStatus.QUEUED:
            await notify(self._session, DISPATCH)

    async def apply(self, inputs: Iterable[tuple[Execution, Input]], *, actor: int | None = None) -> list[Change]:
        """Put each input through the state machine and write what follows, with its events, in one go.

        The executions must be locked, each given once. Refused inputs are left out of the answer.
        """
        changes = [
            Change(execution, proposed, actor)
            for execution, given in inputs
            if not isinstance(proposed := propose(execution, given), Refusal)
        ]
        if not changes:
            return changes
        workers = await self._store.save(changes)
        events = [
            ExecutionStateChanged(
                execution_id=change.execution.id,
                project_id=change.execution.project_id,
                before=change.transition.before,
                after=change.transition.after,
                reason=change.transition.reason,
                attempt_id=change.execution.attempt.id if change.execution.attempt else None,
            )
            for change in changes
            if change.transition.changes_status
        ]
        await emit(self._session, *events, actor=actor)
        if workers:
            await notify(self._session, WORKERS)
        if any(change.transition.requeues for change in changes):
            await notify(self._session, DISPATCH)
        return changes

    async def stop(self, execution_id: UUID, request: StopRequest, *, actor: int | None) -> StopAnswer:
        """Ask an execution to end: at once when nothing runs yet, by the ladder when it does. Raises `NotFound`."""
        execution = await self._locked(execution_id)
        changes = await self.apply([(execution, Stop(hard=request.hard, message=request.message))], actor=actor)
        if not changes:
            return StopAnswer(status=execution.status, level=0 if execution.status.final else execution.stop_level)
        return StopAnswer(status=changes[0].transition.after, level=changes[0].transition.stop_level)

    async def patch(self, execution_id: UUID, patch: ExecutionPatch) -> None:
        """Change title, tags, priority or detail. Raises `NotFound`."""
        values = patch.model_dump(exclude={"add_tags"})
        await self._locked(execution_id)
        if not await self._store.patch(execution_id, values, patch.add_tags):
            raise _not_found(execution_id)

    async def delete(self, execution_id: UUID, *, actor: int | None) -> None:
        """Delete an execution that has ended. Raises `NotFound`, and `Conflict` while it has not ended."""
        execution = await self._locked(execution_id)
        if not execution.status.final:
            raise Conflict(
                f"The execution is {execution.status.value}; stop it and wait until it has ended, then delete it.",
                code="not_final",
            )
        if not await self._store.is_deleted(execution_id):
            await self._store.delete(execution_id)
            event = ExecutionDeleted(execution_id=execution_id, project_id=execution.project_id)
            await emit(self._session, event, actor=actor)

    async def stop_project(self, project_id: UUID, *, actor: int | None) -> None:
        """Stop everything that has not ended in a deleted project."""
        found = await self._store.lock(await self._store.unfinished_of_project(project_id))
        stop = Stop(message="The project was deleted.")
        await self.apply([(one, stop) for one in found.values() if one.stop_level == 0], actor=actor)

    async def code_archived(self, project_id: UUID, identifier: str, key: str | None, sha256: str | None) -> list[UUID]:
        """Fill in a commit's snapshot and queue what waited for it, as far as quotas allow."""
        ids = list((await self._store.lock(await self._store.waiting_for_code(project_id, identifier))).keys())
        if ids and key is not None:
            await self._store.set_code(ids, key, sha256)
            await self.promote(limit=max(PROMOTE_BATCH, len(ids)))
        return ids

    async def code_unavailable(self, project_id: UUID, identifier: str, message: str) -> None:
        """End what waits for a snapshot that cannot be made."""
        found = await self._store.lock(await self._store.waiting_for_code(project_id, identifier))
        await self.apply([(one, CodeUnavailable(message)) for one in found.values()])

    async def promote(self, *, limit: int = PROMOTE_BATCH) -> int:
        """Queue executions that nothing blocks any more; returns how many."""
        candidates = await self._store.over_quota(limit)
        found = await self._store.lock([row["id"] for row in candidates], skip_locked=True)
        room: dict[tuple[UUID, int], int] = {}
        admitted: list[Execution] = []
        for row in candidates:
            if row["id"] not in found:
                continue
            if row["quota"] > 0:
                key = (row["environment_id"], row["creator_id"])
                if key not in room:
                    room[key] = row["quota"] - await self._store.lock_quota(*key)
                if room[key] <= 0:
                    continue
                room[key] -= 1
            admitted.append(found[row["id"]])
        return len(await self.apply([(one, Enqueue()) for one in admitted]))

    async def _locked(self, execution_id: UUID) -> Execution:
        execution = (await self._store.lock([execution_id])).get(execution_id)
        if execution is None:
            raise _not_found(execution_id)
        return execution


def _not_found(execution_id: UUID) -> NotFound:
    return NotFound(f"There is no execution {execution_id}.")


def _same_project(before: tuple[ExecutionCreated, UUID], draft: ExecutionDraft) -> ExecutionCreated:
    created, project_id = before
    if project_id != draft.project_id:
        raise Conflict(f"The id {draft.id} belongs to an execution of another project. Pick a new id.", field="id")
    return created
