"""Internal HTTP of environments and group tokens."""

from uuid import UUID

from fastapi import APIRouter

from slipway_db import Transaction
from slipway_scheduler.context import Services
from slipway_schemas.environments import EnvironmentCreate, EnvironmentPatch, EnvironmentView, GroupTokenCreated

router = APIRouter(prefix="/internal/v1/environments", tags=["environments"])


@router.post("", status_code=201, responses={409: {}})
async def create(wanted: EnvironmentCreate, session: Transaction, services: Services) -> EnvironmentView:
    """Add an environment."""
    return await services.environments(session).create(wanted)


@router.patch("/{environment_id}")
async def patch(
    environment_id: UUID, changes: EnvironmentPatch, session: Transaction, services: Services
) -> EnvironmentView:
    """Change an environment."""
    return await services.environments(session).patch(environment_id, changes)


@router.delete("/{environment_id}", status_code=204)
async def delete(environment_id: UUID, session: Transaction, services: Services) -> None:
    """Delete an environment; what runs in it goes on."""
    await services.environments(session).delete(environment_id)


@router.post("/{environment_id}/group-tokens", status_code=201)
async def create_token(environment_id: UUID, session: Transaction, services: Services) -> GroupTokenCreated:
    """Make a token with which machines join; it is shown this once."""
    return await services.environments(session).create_token(environment_id)


@router.delete("/{environment_id}/group-tokens/{token_id}", status_code=204)
async def revoke_token(environment_id: UUID, token_id: UUID, session: Transaction, services: Services) -> None:
    """Revoke a group token; workers that joined with it stay."""
    await services.environments(session).revoke_token(environment_id, token_id)
