"""Internal HTTP of versions."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_db import Read, Transaction
from slipway_schemas.inference.versions import Created, NameSuggestion, VersionChange, VersionDraft

router = APIRouter(prefix="/internal/v1", tags=["versions"])


@router.get("/deployments/{deployment_id}/suggested-version-name")
async def suggest(deployment_id: UUID, session: Read, services: Services) -> NameSuggestion:
    """The next free name of today; two callers may get the same one."""
    return await services.versions(session).suggest(deployment_id)


@router.post("/versions", status_code=201, responses={409: {}})
async def create(draft: VersionDraft, session: Transaction, services: Services) -> Created:
    """Make a version; the same id again gets the same answer."""
    return await services.versions(session).create(draft)


@router.patch("/versions/{version_id}", status_code=204)
async def change(version_id: UUID, wanted: VersionChange, session: Transaction, services: Services) -> None:
    """Enable or disable a version."""
    await services.versions(session).change(version_id, wanted)


@router.delete("/versions/{version_id}", status_code=204, responses={409: {}})
async def delete(version_id: UUID, session: Transaction, services: Services) -> None:
    """Delete a version that no alias points at."""
    await services.versions(session).delete(version_id)


@router.post("/versions/{version_id}/rebuild", status_code=204, responses={409: {}})
async def rebuild(version_id: UUID, session: Transaction, services: Services) -> None:
    """Build failed and cancelled images again."""
    await services.versions(session).rebuild(version_id)


@router.post("/versions/{version_id}/cancel", status_code=204)
async def cancel(version_id: UUID, session: Transaction, services: Services) -> None:
    """Stop the builds of a version."""
    await services.versions(session).cancel(version_id)
