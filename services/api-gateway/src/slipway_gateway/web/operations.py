"""The operators' page: what is wrong, and everything that tells so."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from slipway_gateway.identity.dependencies import Context
from slipway_gateway.operations.service import platform_health
from slipway_gateway.web.access import PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.rendering import render
from slipway_kit.errors import NotFound

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/admin/")
async def operations(request: Request, user: PageUser, context: Context) -> Response:
    """How the platform is; only administrators learn that this page exists."""
    if not user.is_admin:
        raise NotFound("There is nothing here.")
    return render(request, "operations.html", user=user, health=await platform_health(context))
