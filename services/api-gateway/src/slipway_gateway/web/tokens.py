"""The page of a person's API tokens."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import IssuedToken, User
from slipway_gateway.web.access import PageForm, PageUser, session_user
from slipway_gateway.web.auth import login_page
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.rendering import render
from slipway_kit.errors import Invalid, NotFound

PATH = "/auth/tokens/"

router = APIRouter(prefix="/auth/tokens", include_in_schema=False, route_class=PageRoute)


@router.get("/")
async def tokens(request: Request, context: Context, user: Annotated[User | None, Depends(session_user)]) -> Response:
    """The tokens. Clients send people here who cannot log in otherwise, so who is not logged in sees the login form
    in place, not a redirect."""
    if user is None:
        return login_page(request, context, wanted=PATH)
    return await _tokens(request, context, user)


@router.post("/")
async def create(request: Request, context: Context, user: PageUser, form: PageForm) -> Response:
    """Make a token and show its value in this one answer."""
    values = {"name": form.text("name"), "days": form.text("days")}
    try:
        async with context.db.transaction() as session:
            made = await Factory(context, session).tokens.create_api_token(user, now=context.clock.now(), **values)
    except Invalid as error:
        return await _tokens(request, context, user, values=values, problems=problems_of(error))
    return await _tokens(request, context, user, made=made)


@router.post("/revoke/")
async def revoke(context: Context, user: PageUser, form: PageForm) -> Response:
    """End a token."""
    try:
        token_id = UUID(form.text("id"))
    except ValueError:
        raise NotFound("There is no such token, or it has been revoked before.") from None
    async with context.db.transaction() as session:
        await Factory(context, session).tokens.revoke(user, token_id)
    return RedirectResponse(PATH, 303)


async def _tokens(
    request: Request,
    context: GatewayContext,
    user: User,
    *,
    made: IssuedToken | None = None,
    values: dict[str, str] | None = None,
    problems: Problems | None = None,
) -> Response:
    async with context.db.read() as session:
        found = await Factory(context, session).tokens.api_tokens(user)
    return render(
        request,
        "tokens.html",
        user=user,
        status=400 if problems else 200,
        tokens=found,
        made=made,
        values=values or {"name": "", "days": ""},
        problems=problems or {},
    )
