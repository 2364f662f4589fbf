"""What workers call at the gateway: materials, uploads, outputs."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Security

from slipway_gateway.identity.dependencies import Context
from slipway_kit.auth import BEARER, bearer_token
from slipway_kit.errors import Forbidden
from slipway_schemas.attempts import (
    Materials,
    MaterialsRequest,
    OutputsAnswer,
    OutputsRequest,
    PartUrls,
    PartUrlsRequest,
    UploadRequest,
    UploadTicket,
)
from slipway_schemas.tokens import AttemptClaims

router = APIRouter(
    prefix="/workers/v1/attempts/{attempt_id}",
    tags=["workers"],
    dependencies=[Security(BEARER)],
    responses={409: {}},
)


def _claims(attempt_id: UUID, request: Request, context: Context) -> AttemptClaims:
    claims = context.attempts.verify(bearer_token(request))
    if claims.attempt_id != attempt_id:
        raise Forbidden("This token belongs to another attempt.")
    return claims


Claims = Annotated[AttemptClaims, Depends(_claims)]


@router.post("/materials")
async def materials(claims: Claims, context: Context, body: MaterialsRequest) -> Materials:
    """What the attempt needs. URLs live 15 minutes; ask again for new ones."""
    return await context.materials.collect(claims, body)


@router.post("/uploads")
async def begin_upload(claims: Claims, context: Context, body: UploadRequest) -> UploadTicket:
    """Where an output goes. The same name and size again resumes."""
    return await context.data.outputs.ticket(claims, body)


@router.post("/uploads/{datum_id}/parts")
async def part_urls(datum_id: UUID, claims: Claims, context: Context, body: PartUrlsRequest) -> PartUrls:
    """URLs of parts."""
    return await context.data.outputs.part_urls(claims, datum_id, body.numbers)


@router.post("/outputs")
async def register_outputs(claims: Claims, context: Context, body: OutputsRequest) -> OutputsAnswer:
    """Uploaded files become datums. Sending them again changes nothing."""
    return await context.data.outputs.register(claims, body)
