"""Use cases of executions: resolve and hand over to the scheduler, read what it publishes."""

from collections.abc import Sequence
from uuid import UUID

from slipway_db import Database
from slipway_gateway.code.domain import Commit
from slipway_gateway.code.store import CodeStore
from slipway_gateway.data.domain import clean_tags
from slipway_gateway.executions.domain.record import Execution, ExecutionDetail
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.drafts import DraftBuilder, Snapshots
from slipway_gateway.executions.store import ExecutionFilter, ExecutionStore
from slipway_gateway.idempotency import id_for
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.projects.store import ProjectStore
from slipway_kit.errors import Conflict, Invalid, NotFound
from slipway_kit.http import Neighbour
from slipway_kit.ids import new_id
from slipway_kit.vault import Vault
from slipway_schemas.executions import (
    ExecutionCreated,
    ExecutionDraft,
    ExecutionPatch,
    StopAnswer,
    StopRequest,
    Waiting,
)

_INTERNAL = "/internal/v1/executions"
_CREATE_SECONDS = 20.0


class ExecutionService:
    """Executions. It opens its own units of work and closes them before it calls the scheduler."""

    def __init__(self, db: Database, scheduler: Neighbour, vault: Vault, snapshots: Snapshots) -> None:
        self._db = db
        self._scheduler = scheduler
        self._snapshots = snapshots
        self._drafts = DraftBuilder(db, vault, snapshots)

    async def page(self, user: User, wanted: ExecutionFilter, request: PageRequest) -> Page[Execution]:
        """Executions that the user may see."""
        async with self._db.read() as session:
            return await ExecutionStore(session).page(user.id, wanted, request)

    async def get(self, user: User, reference: str) -> ExecutionDetail:
        """An execution by id, `<project id>:<counter>` or `<project id>:latest`. Raises `NotFound`."""
        execution_id, place = _parsed(reference)
        async with self._db.read() as session:
            found = await ExecutionStore(session).detail(user.id, execution_id=execution_id, place=place)
        if found is None:
            raise _not_found()
        return found

    async def create(self, user: User, request: RunRequest, key: str | None = None) -> ExecutionDetail:
        """A new execution. The same `key` of the same user gives the same execution. Raises `Invalid`."""
        execution_id = id_for("execution", user.id, key)
        _checked_tags(request.tags)
        draft, commit = await self._drafts.build(user, request, execution_id)
        return await self._submit(user, draft, commit)

    async def copy(self, user: User, reference: str) -> ExecutionDetail:
        """The same run again, from what is stored of it: its branch may be gone. Raises `NotFound`."""
        detail = await self.get(user, reference)
        old = detail.execution
        async with self._db.read() as session:
            project = await ProjectStore(session).visible(user.id, old.project_id)
            commit = await CodeStore(session).commit(old.project_id, old.commit_identifier)
        if project is None:
            raise _not_found()
        spec = detail.spec
        if spec.code.archive_key is None and commit is not None:
            spec = spec.model_copy(update={"code": commit.code_ref})
        draft = _copied(user, project, detail).model_copy(update={"spec": spec})
        return await self._submit(user, draft, commit)

    async def stop(self, user: User, reference: str, *, hard: bool = False) -> StopAnswer:
        """Ask an execution to stop; a second time, kill it. Raises `NotFound`."""
        detail = await self.get(user, reference)
        return await self._scheduler.post(
            f"{_INTERNAL}/{detail.execution.id}/stop", body=StopRequest(hard=hard), result=StopAnswer, actor=user.id
        )

    async def change(self, user: User, reference: str, patch: ExecutionPatch) -> ExecutionDetail:
        """Change title, tags or priority. Raises `NotFound`, `Invalid`."""
        detail = await self.get(user, reference)
        tags = None if patch.tags is None else _checked_tags(patch.tags)
        checked = patch.model_copy(update={"tags": tags, "add_tags": _checked_tags(patch.add_tags)})
        await self._scheduler.patch(f"{_INTERNAL}/{detail.execution.id}", body=checked, actor=user.id)
        return await self.get(user, str(detail.execution.id))

    async def set_status_detail(self, execution_id: UUID, text: str) -> None:
        """What the run says of itself; the caller has proved to be the run."""
        await self._scheduler.patch(f"{_INTERNAL}/{execution_id}", body=ExecutionPatch(status_detail=text[:1024]))

    async def delete(self, user: User, reference: str) -> None:
        """Delete an execution that has ended. Raises `NotFound`, `Invalid` while it has not."""
        detail = await self.get(user, reference)
        if not detail.execution.status.final:
            raise Invalid(
                f"Execution #{detail.execution.counter} is {detail.execution.status.value}. Stop it first.",
                code="not_final",
            )
        try:
            await self._scheduler.delete(f"{_INTERNAL}/{detail.execution.id}", actor=user.id)
        except Conflict as error:
            raise Invalid(error.message, code="not_final") from error

    async def waiting(self, user: User, reference: str) -> Waiting:
        """Why an execution waits, and where it stands in its queue. Raises `NotFound`."""
        detail = await self.get(user, reference)
        return await self._scheduler.get(f"{_INTERNAL}/{detail.execution.id}/waiting", result=Waiting, actor=user.id)

    async def _submit(self, user: User, draft: ExecutionDraft, commit: Commit | None) -> ExecutionDetail:
        created = await self._scheduler.post(
            _INTERNAL, body=draft, result=ExecutionCreated, actor=user.id, timeout=_CREATE_SECONDS
        )
        if draft.spec.code.archive_key is None and commit is not None:
            await self._snapshots.ensure_archive(commit)
        return await self.get(user, str(created.id))


def _parsed(reference: str) -> tuple[UUID | None, tuple[UUID, int | None] | None]:
    first, colon, second = reference.partition(":")
    try:
        if not colon:
            return UUID(first), None
        counter = None if second == "latest" else int(second.lstrip("#=!"))
        if counter is not None and not 0 < counter < 2**31:
            raise _not_found()
        return None, (UUID(first), counter)
    except ValueError:
        raise _not_found() from None


def _not_found() -> NotFound:
    return NotFound("This execution does not exist, or you may not see it.")


def _copied(user: User, project: Project, detail: ExecutionDetail) -> ExecutionDraft:
    old = detail.execution
    return ExecutionDraft(
        id=new_id(),
        project_id=project.id,
        project_name=project.full_name,
        owner_id=project.owner_id,
        creator_id=user.id,
        creator_name=user.username,
        creator_email=user.email,
        environment_id=old.environment_id,
        title=old.title,
        tags=old.tags,
        priority=old.priority,
        spec=detail.spec,
    )


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    try:
        return clean_tags(tags)
    except ValueError as error:
        raise Invalid(str(error), field="tags") from error
