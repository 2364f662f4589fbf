"""Internal API of metadata."""

from typing import Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request, Response

from slipway_logs.context import factory_of

router = APIRouter(prefix="/internal/v1")


@router.get("/executions/{execution_id}/metadata", response_model=list[dict[str, Any]])
async def metadata_records(execution_id: UUID, request: Request) -> Response:
    """Every metadata record of the execution's newest attempt that printed any, in order, with `_time`."""
    records = await factory_of(request).metadata().records(execution_id)
    return Response(msgspec.json.encode(records), media_type="application/json")
