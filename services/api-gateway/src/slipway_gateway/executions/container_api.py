"""What user code inside a container may call: status detail, and inputs on demand (contract 3.5 and 3.7)."""

import json
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Security
from fastapi.security import APIKeyHeader

from slipway_gateway.executions.attempts import load_attempt
from slipway_gateway.executions.tokens import execution_token
from slipway_gateway.identity.dependencies import Context
from slipway_kit.errors import Forbidden
from slipway_schemas.storable import MadeStorable
from slipway_schemas.tokens import AttemptClaims, ExecutionClaims

_TOKEN: Final = APIKeyHeader(
    name="Authorization",
    scheme_name="executionToken",
    description="`Execution-Token <token of the run>`",
    auto_error=False,
)

router = APIRouter(tags=["containers"], dependencies=[Security(_TOKEN)])
root_router = APIRouter(tags=["containers"], dependencies=[Security(_TOKEN)])


class StatusDetail(MadeStorable):
    """What a run says of itself: a text, or an object that is kept as JSON."""

    status_detail: str | dict[str, Any] | list[Any] | None = None


async def _proven(request: Request, context: Context, execution_id: UUID) -> ExecutionClaims:
    claims = context.execution_tokens.verify(execution_token(request))
    if claims.execution_id != execution_id:
        raise Forbidden("This token belongs to another execution.")
    async with context.db.read() as session:
        attempt = AttemptClaims(
            attempt_id=claims.attempt_id, execution_id=claims.execution_id, environment_id=UUID(int=0), number=0
        )
        if (await load_attempt(session, attempt)).ended:
            raise Forbidden("This execution has ended; its token is not valid any more.")
    return claims


@router.post("/executions/{execution_id}/set_status_detail/")
async def set_status_detail(
    execution_id: UUID, request: Request, context: Context, body: Annotated[StatusDetail, Body()]
) -> dict[str, str]:
    """Show a text beside the status of the run."""
    await _proven(request, context, execution_id)
    detail = body.status_detail
    words = detail if isinstance(detail, str) else "" if detail is None else json.dumps(detail)
    await context.executions.set_status_detail(execution_id, words)
    return {"message": "OK"}


@root_router.post("/request-input-data/")
async def request_input_data(
    request: Request, context: Context, execution: UUID, inputs: Annotated[list[UUID], Query()]
) -> list[dict[str, Any]]:
    """Signed URLs of inputs that user code downloads itself."""
    claims = await _proven(request, context, execution)
    return await context.materials.on_demand(claims, inputs)
