"""Internal HTTP of endpoints."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from slipway_builder.context import Services
from slipway_db import Transaction
from slipway_schemas.inference.versions import EndpointChange, EndpointLines

router = APIRouter(prefix="/internal/v1/endpoints", tags=["endpoints"])


@router.patch("/{endpoint_id}", status_code=204)
async def change(endpoint_id: UUID, wanted: EndpointChange, session: Transaction, services: Services) -> None:
    """Enable, disable or scale an endpoint."""
    await services.endpoints(session).change(endpoint_id, wanted)


@router.get("/{endpoint_id}/log")
async def log(
    endpoint_id: UUID, services: Services, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
) -> EndpointLines:
    """The newest lines of all replicas, as the target has them."""
    return await services.observe.recent_lines(endpoint_id, limit)
