"""Deployment targets over the native API."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.v0.bodies import body_schema
from slipway_kit.body import json_or_form
from slipway_schemas.inference.versions import (
    CleanUpReport,
    TargetChange,
    TargetChecks,
    TargetCreated,
    TargetDetail,
    TargetDraft,
)

router = APIRouter(tags=["deployments"])


class TargetV1(BaseModel):
    """A target that deployments may choose."""

    id: UUID
    name: str
    kind: str
    public_url: str
    is_default: bool
    unreachable_since: datetime | None
    problem: str = Field(description="Why it cannot be reached, if it cannot.")


class TargetsV1(BaseModel):
    """All targets, the default one first."""

    items: list[TargetV1]


DraftBody = Annotated[TargetDraft, Depends(json_or_form(TargetDraft))]
ChangeBody = Annotated[TargetChange, Depends(json_or_form(TargetChange))]


@router.get("/deployment-targets")
async def list_targets(user: CurrentUser, context: Context) -> TargetsV1:
    """Targets that a new deployment may choose."""
    found = await context.inference.targets.all()
    return TargetsV1(items=[TargetV1.model_validate(one, from_attributes=True) for one in found])


@router.post(
    "/deployment-targets", status_code=201, openapi_extra=body_schema(TargetDraft), responses={404: {}, 409: {}}
)
async def create_target(user: CurrentUser, context: Context, body: DraftBody) -> TargetCreated:
    """Add a target. The token with which its routers ask for their table is in this answer and nowhere else."""
    return await context.inference.targets.create(user, body)


@router.post("/deployment-targets/{target_id}/check")
async def check_target(target_id: UUID, user: CurrentUser, context: Context) -> TargetChecks:
    """Test the connection to a target and name every permission that is missing. For administrators."""
    return await context.inference.targets.check(user, target_id)


@router.post("/deployment-targets/{target_id}/clean-up", responses={409: {}})
async def clean_up_target(target_id: UUID, user: CurrentUser, context: Context, dry_run: bool = True) -> CleanUpReport:
    """Say which images of a target no version needs; with `dry_run=false`, delete them. For administrators."""
    return await context.inference.targets.clean_up(user, target_id, dry_run=dry_run)


@router.get("/deployment-targets/{target_id}")
async def get_target(target_id: UUID, user: CurrentUser, context: Context) -> TargetDetail:
    """A target's settings, with `********` for secrets. For administrators."""
    return await context.inference.targets.detail(user, target_id)


@router.patch(
    "/deployment-targets/{target_id}", status_code=204, openapi_extra=body_schema(TargetChange), responses={404: {}}
)
async def change_target(target_id: UUID, user: CurrentUser, context: Context, body: ChangeBody) -> Response:
    """Change a target. `settings` replaces all settings; a secret that is sent back masked stays what it was.

    What the target serves is applied again, without an interruption. For administrators.
    """
    await context.inference.targets.change(user, target_id, body)
    return Response(status_code=204)


@router.delete("/deployment-targets/{target_id}", status_code=204, responses={409: {}})
async def delete_target(target_id: UUID, user: CurrentUser, context: Context, force: bool = False) -> Response:
    """Remove a target that has no deployments. With `force`, one that is gone for good and cannot let go of its last
    endpoints. For administrators."""
    await context.inference.targets.delete(user, target_id, force=force)
    return Response(status_code=204)


@router.post("/deployment-targets/{target_id}/router-token")
async def renew_router_token(target_id: UUID, user: CurrentUser, context: Context) -> TargetCreated:
    """Make a new token for the target's routers. The one before opens nothing from now on: routers that have it serve
    on with the table that they have. For administrators."""
    return await context.inference.targets.renew_router_token(user, target_id)
