"""Internal HTTP of executions: what the gateway asks of their owner."""

from uuid import UUID

from fastapi import APIRouter

from slipway_db import Read, Transaction
from slipway_scheduler.context import Actor, Services
from slipway_schemas.executions import (
    ExecutionCreated,
    ExecutionDraft,
    ExecutionPatch,
    StopAnswer,
    StopRequest,
    Waiting,
)

router = APIRouter(prefix="/internal/v1/executions", tags=["executions"])


@router.post("", status_code=201, responses={409: {}})
async def create(draft: ExecutionDraft, session: Transaction, services: Services, actor: Actor) -> ExecutionCreated:
    """Create an execution; the same id again gets the same answer."""
    return await services.executions(session).create(draft, actor=actor)


@router.post("/{execution_id}/stop")
async def stop(
    execution_id: UUID, request: StopRequest, session: Transaction, services: Services, actor: Actor
) -> StopAnswer:
    """Ask an execution to end; a second request kills it."""
    return await services.executions(session).stop(execution_id, request, actor=actor)


@router.patch("/{execution_id}", status_code=204)
async def patch(execution_id: UUID, changes: ExecutionPatch, session: Transaction, services: Services) -> None:
    """Change title, tags, priority or status detail."""
    await services.executions(session).patch(execution_id, changes)


@router.delete("/{execution_id}", status_code=204, responses={409: {}})
async def delete(execution_id: UUID, session: Transaction, services: Services, actor: Actor) -> None:
    """Delete an execution that has ended."""
    await services.executions(session).delete(execution_id, actor=actor)


@router.get("/{execution_id}/waiting")
async def waiting(execution_id: UUID, session: Read, services: Services) -> Waiting:
    """Say why an execution waits and where it stands in its queue."""
    return await services.dispatch(session).waiting(execution_id)
