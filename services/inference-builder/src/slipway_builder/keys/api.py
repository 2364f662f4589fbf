"""Internal HTTP of keys."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_db import Transaction
from slipway_schemas.inference.versions import Created, KeyDraft

router = APIRouter(prefix="/internal/v1/keys", tags=["keys"])


@router.post("", status_code=201)
async def create(draft: KeyDraft, session: Transaction, services: Services) -> Created:
    """Keep a key's hash and hand it to the routers."""
    return await services.keys(session).create(draft)


@router.delete("/{key_id}", status_code=204)
async def revoke(key_id: UUID, session: Transaction, services: Services) -> None:
    """End a key."""
    await services.keys(session).revoke(key_id)
