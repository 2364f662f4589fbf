"""Internal HTTP of deployments."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_db import Transaction
from slipway_schemas.inference.versions import Created, DeploymentChange, DeploymentDraft

router = APIRouter(prefix="/internal/v1/deployments", tags=["deployments"])


@router.post("", status_code=201, responses={409: {}})
async def create(draft: DeploymentDraft, session: Transaction, services: Services) -> Created:
    """Make a deployment; the same id again gets the same answer."""
    return await services.deployments(session).create(draft)


@router.patch("/{deployment_id}", status_code=204)
async def change(deployment_id: UUID, wanted: DeploymentChange, session: Transaction, services: Services) -> None:
    """Enable, disable, open or close a deployment."""
    await services.deployments(session).change(deployment_id, wanted)


@router.delete("/{deployment_id}", status_code=204)
async def delete(deployment_id: UUID, session: Transaction, services: Services) -> None:
    """Delete a deployment with all that serves it."""
    await services.deployments(session).delete(deployment_id)
