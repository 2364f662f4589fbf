"""`/api/v1`: attempts and usage of an execution, failures of a project."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import RootModel

from slipway_gateway.context import Factory
from slipway_gateway.failures.domain import Attempts, Failures
from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_kit.errors import NotFound
from slipway_schemas.usage import UsageSeries

router = APIRouter(tags=["failures"])

_MOST_POINTS = 2000


class Usage(RootModel[list[UsageSeries]]):
    """What the attempts of an execution have used, first attempt first."""


@router.get("/executions/{reference}/attempts/")
async def list_attempts(reference: str, user: CurrentUser, context: Context) -> Attempts:
    """Every try of an execution: phases, end reason, hint, evidence and the last lines that it printed."""
    detail = await context.executions.get(user, reference)
    return Attempts(attempts=await context.failures.attempts(detail.execution.id))


@router.get("/executions/{reference}/usage/")
async def get_usage(
    reference: str,
    user: CurrentUser,
    context: Context,
    points: Annotated[int, Query(ge=2, le=_MOST_POINTS, description="At most this many samples per attempt.")] = 500,
) -> Usage:
    """CPU, memory, disk and GPU use of every attempt as a series of samples."""
    detail = await context.executions.get(user, reference)
    path = f"/internal/v1/executions/{detail.execution.id}/usage?points={points}"
    return await context.logs.get(path, result=Usage)


@router.get("/projects/{project}/failures/")
async def list_failures(
    project: str,
    user: CurrentUser,
    context: Context,
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Failures:
    """What failed in a project, equal failures together, the most recent first."""
    try:
        project_id = UUID(project)
    except ValueError:
        raise NotFound("This project does not exist, or you may not see it.") from None
    async with context.db.read() as session:
        found = await Factory(context, session).projects.get_visible(user, project_id)
    return Failures(days=days, failures=await context.failures.failures(found.id, days=days, limit=limit))
