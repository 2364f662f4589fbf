"""Internal HTTP of targets."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_builder.targets.store import TargetStore
from slipway_db import Read, Transaction
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import (
    CleanUpReport,
    TargetChecks,
    TargetCheckView,
    TargetCreated,
    TargetDraft,
    TargetView,
)

router = APIRouter(prefix="/internal/v1/targets", tags=["targets"])


@router.get("")
async def targets(session: Read) -> list[TargetView]:
    """All targets, without their secrets."""
    return [
        TargetView(id=one.id, name=one.name, kind=one.kind, public_url=one.public_url, is_default=one.is_default)
        for one in await TargetStore(session).all()
    ]


@router.post("", status_code=201, responses={409: {}})
async def create(draft: TargetDraft, session: Transaction, services: Services) -> TargetCreated:
    """Add a target."""
    services.pool.make(new_id(), draft.kind, draft.settings)  # refuses what cannot be used
    return await services.targets(session).create(draft)


@router.post("/{target_id}/clean-up", responses={409: {}})
async def clean_up(target_id: UUID, services: Services, dry_run: bool = True) -> CleanUpReport:
    """Delete the images that no version needs, or say which those are."""
    return await services.upkeep.clean_up(target_id, dry_run=dry_run)


@router.post("/{target_id}/check")
async def check(target_id: UUID, services: Services) -> TargetChecks:
    """Test the connection and every right that is needed."""
    async with services.db.read() as session:
        target = await services.targets(session).get(target_id)
    checks = await services.pool.open(target).check()
    return TargetChecks(checks=tuple(TargetCheckView(name=one.name, ok=one.ok, message=one.message) for one in checks))
