"""HTTP for routers: they show the token of their target."""

from fastapi import APIRouter, Request, Security

from slipway_builder.context import Services
from slipway_kit.auth import BEARER, bearer_token
from slipway_kit.service import stopping_event
from slipway_schemas.inference.routing import RouterSync, TableChanges

router = APIRouter(prefix="/internal/v1/routers", tags=["routers"], dependencies=[Security(BEARER)])


@router.post("/sync")
async def sync(body: RouterSync, request: Request, services: Services) -> TableChanges:
    """Say what a router has; answered at once when it is behind, else when there is something new."""
    return await services.desk.sync(bearer_token(request), body, stopping_event(request))
