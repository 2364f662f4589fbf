"""Internal HTTP of keys. Both calls are answered when the routers of the target have heard of it."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_schemas.inference.versions import Created, KeyDraft

router = APIRouter(prefix="/internal/v1/keys", tags=["keys"])


@router.post("", status_code=201)
async def create(draft: KeyDraft, services: Services) -> Created:
    """Keep a key's hash and hand it to the routers."""
    async with services.db.transaction() as session:
        target_id, revision = await services.keys(session).create(draft)
    await services.desk.applied(target_id, revision)
    return Created(id=draft.id, name=draft.consumer)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: UUID, services: Services) -> None:
    """End a key."""
    async with services.db.transaction() as session:
        target_id, revision = await services.keys(session).revoke(key_id)
    await services.desk.applied(target_id, revision)
