"""HTTP for routers: they show the token of their target."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response, Security

from slipway_builder.context import Services
from slipway_kit.auth import BEARER, bearer_token
from slipway_kit.body import json_or_form
from slipway_kit.service import stopping_event
from slipway_schemas.inference.routing import RouterSync, TableChanges

router = APIRouter(prefix="/internal/v1/routers", tags=["routers"], dependencies=[Security(BEARER)])


_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "description": RouterSync.__doc__}}},
    }
}
_read_body = json_or_form(RouterSync)


async def _admitted(request: Request, services: Services) -> str:
    """The token of a target's routers; the body of anybody else is not read."""
    token = bearer_token(request)
    await services.desk.admit(token)
    return token


async def _sync(request: Request, _token: Annotated[str, Depends(_admitted)]) -> RouterSync:
    return await _read_body(request)


@router.post("/sync", openapi_extra=_BODY, response_model=TableChanges)
async def sync(
    token: Annotated[str, Depends(_admitted)],
    body: Annotated[RouterSync, Depends(_sync)],
    request: Request,
    services: Services,
) -> Response:
    """Say what a router has; answered at once when it is behind, else when there is something new."""
    document = await services.desk.sync(token, body, stopping_event(request))
    return Response(document, media_type="application/json")
