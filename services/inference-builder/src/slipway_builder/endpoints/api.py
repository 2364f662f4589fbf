"""Internal HTTP of endpoints."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_db import Transaction
from slipway_schemas.inference.versions import EndpointChange

router = APIRouter(prefix="/internal/v1/endpoints", tags=["endpoints"])


@router.patch("/{endpoint_id}", status_code=204)
async def change(endpoint_id: UUID, wanted: EndpointChange, session: Transaction, services: Services) -> None:
    """Enable, disable or scale an endpoint."""
    await services.endpoints(session).change(endpoint_id, wanted)
