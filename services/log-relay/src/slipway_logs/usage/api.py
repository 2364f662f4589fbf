"""`POST /workers/v1/usage`, and the series for the gateway."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from slipway_logs.context import factory_of
from slipway_schemas.usage import UsageAnswer, UsageBatch, UsageSeries

workers = APIRouter()
internal = APIRouter(prefix="/internal/v1")


@workers.post("/workers/v1/usage", responses={409: {"description": "The attempt is superseded"}})
async def take_samples(batch: UsageBatch, request: Request) -> UsageAnswer:
    """Keep samples of what a run uses. Sending them again changes nothing."""
    factory = factory_of(request)
    claims = factory.attempt_access.claims(request.headers.get("authorization"))
    return UsageAnswer(stored=await factory.usage().take(claims, batch))


@internal.get("/executions/{execution_id}/usage")
async def usage(
    execution_id: UUID, request: Request, points: Annotated[int, Query(ge=2, le=10_000)] = 500
) -> list[UsageSeries]:
    """What the attempts of an execution have used, thinned out to at most this many samples each."""
    return await factory_of(request).usage().series(execution_id, points)
