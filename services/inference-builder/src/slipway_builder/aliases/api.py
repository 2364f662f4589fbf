"""Internal HTTP of aliases. A move is answered when every router of the target has it."""

from uuid import UUID

from fastapi import APIRouter

from slipway_builder.aliases.service import Mover
from slipway_builder.context import Actor, Services
from slipway_db import Transaction
from slipway_schemas.inference.versions import AliasMove, AliasMoved

router = APIRouter(prefix="/internal/v1/deployments/{deployment_id}/aliases/{name}", tags=["aliases"])


@router.put("", responses={409: {}})
async def move(deployment_id: UUID, name: str, wanted: AliasMove, services: Services, actor: Actor) -> AliasMoved:
    """Point an alias at a version that is ready, making the alias if there is none."""
    async with services.db.transaction() as session:
        moved, target_id = await services.aliases(session).move(deployment_id, name, wanted, Mover(actor))
    return await services.desk.confirm(target_id, moved)


@router.post("/rollback", responses={400: {}, 409: {}})
async def rollback(deployment_id: UUID, name: str, services: Services, actor: Actor) -> AliasMoved:
    """Point an alias where it pointed before; a canary only ends."""
    async with services.db.transaction() as session:
        moved, target_id = await services.aliases(session).rollback(deployment_id, name, Mover(actor))
    return await services.desk.confirm(target_id, moved)


@router.delete("", status_code=204, responses={400: {}})
async def delete(deployment_id: UUID, name: str, session: Transaction, services: Services, actor: Actor) -> None:
    """Delete an alias; its URLs answer 404."""
    await services.aliases(session).delete(deployment_id, name, Mover(actor))
