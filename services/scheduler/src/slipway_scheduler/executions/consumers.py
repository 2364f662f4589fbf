"""Events of the gateway that change executions."""

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_events import Handler
from slipway_scheduler.executions.service import ExecutionService
from slipway_schemas.events import CommitArchived, EventEnvelope, ProjectDeleted


async def commit_archived(session: AsyncSession, envelope: EventEnvelope) -> None:
    """Queue the executions that waited for the commit's snapshot, or end them when it cannot be made."""
    event = CommitArchived.model_validate(envelope.payload)
    service = ExecutionService(session)
    if event.archive_key is None:
        message = event.error or "The snapshot of the commit could not be made."
        await service.code_unavailable(event.project_id, event.identifier, message)
    else:
        await service.code_archived(event.project_id, event.identifier, event.archive_key, event.archive_sha256)


async def project_deleted(session: AsyncSession, envelope: EventEnvelope) -> None:
    """Stop whatever runs in the project."""
    event = ProjectDeleted.model_validate(envelope.payload)
    await ExecutionService(session).stop_project(event.project_id, actor=envelope.actor)


def handlers() -> dict[str, Handler]:
    """Return the handlers by event name."""
    return {CommitArchived.name: commit_archived, ProjectDeleted.name: project_deleted}
