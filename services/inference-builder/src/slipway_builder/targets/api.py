"""Internal HTTP of targets."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.context import Services
from slipway_builder.targets.store import TargetStore
from slipway_db import Read, Transaction
from slipway_kit.ids import new_id
from slipway_schemas.inference.versions import (
    CleanUpReport,
    TargetChange,
    TargetChecks,
    TargetCheckView,
    TargetCreated,
    TargetDetail,
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


@router.get("/{target_id}")
async def detail(target_id: UUID, session: Read, services: Services) -> TargetDetail:
    """A target with its settings; secrets are masked."""
    return await services.targets(session).detail(target_id)


@router.patch("/{target_id}", status_code=204, responses={409: {}})
async def change(target_id: UUID, body: TargetChange, session: Transaction, services: Services) -> None:
    """Change a target; what it serves is brought in line."""
    await services.targets(session).change(target_id, body, services.pool)


@router.delete("/{target_id}", status_code=204, responses={409: {}})
async def delete(target_id: UUID, session: Transaction, services: Services, force: bool = False) -> None:
    """Forget a target that nothing uses; with `force` also what it may still have to let go of."""
    await services.targets(session).delete(target_id, force=force)


@router.post("/{target_id}/router-token")
async def renew_router_token(target_id: UUID, session: Transaction, services: Services) -> TargetCreated:
    """A new token of the target's routers; the one before opens nothing from now on."""
    return await services.targets(session).renew_router_token(target_id)


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
