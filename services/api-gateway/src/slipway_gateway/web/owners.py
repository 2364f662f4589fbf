"""The page of an owner's environment variables and groups of them."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.web.access import PageForm, PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.rendering import page_path, render
from slipway_kit.errors import Invalid

router = APIRouter(prefix="/owners/{owner}/variables", include_in_schema=False, route_class=PageRoute)


@router.get("/")
async def variables(request: Request, owner: str, user: PageUser, context: Context) -> Response:
    """What all projects of an owner inherit, and the groups that runs may name."""
    return await _page(request, user, context, owner)


@router.post("/")
async def put_variable(request: Request, owner: str, user: PageUser, context: Context, form: PageForm) -> Response:
    """Set a variable of all projects, or of the group that the form names."""
    name, group, secret = form.text("name"), form.text("group"), form.has("secret")
    try:
        async with context.db.transaction() as session:
            service = Factory(context, session).variables
            await service.put(user, owner, group or None, name, form.text("value"), secret=secret)
    except Invalid as error:
        # The value is not sent back to the page: it may be a secret.
        values = {"name": name, "group": group, "secret": secret}
        return await _page(request, user, context, owner, values, problems_of(error))
    return RedirectResponse(page_path("owners", owner, "variables"), 303)


@router.post("/delete/")
async def delete_variable(owner: str, user: PageUser, context: Context, form: PageForm) -> Response:
    """Remove a variable."""
    async with context.db.transaction() as session:
        service = Factory(context, session).variables
        await service.delete(user, owner, form.text("group") or None, form.text("name"))
    return RedirectResponse(page_path("owners", owner, "variables"), 303)


@router.post("/groups/")
async def create_group(request: Request, owner: str, user: PageUser, context: Context, form: PageForm) -> Response:
    """Make a group."""
    name, description = form.text("group_name"), form.text("description")
    try:
        async with context.db.transaction() as session:
            await Factory(context, session).variables.create_group(user, owner, name, description)
    except Invalid as error:
        problems = {"group_name" if field == "name" else field: found for field, found in problems_of(error).items()}
        values = {"group_name": name, "description": description}
        return await _page(request, user, context, owner, values, problems)
    return RedirectResponse(page_path("owners", owner, "variables"), 303)


@router.post("/groups/delete/")
async def delete_group(owner: str, user: PageUser, context: Context, form: PageForm) -> Response:
    """Remove a group with its variables."""
    async with context.db.transaction() as session:
        await Factory(context, session).variables.delete_group(user, owner, form.text("group"))
    return RedirectResponse(page_path("owners", owner, "variables"), 303)


async def _page(
    request: Request,
    user: User,
    context: GatewayContext,
    owner: str,
    values: dict[str, Any] | None = None,
    problems: Problems | None = None,
) -> Response:
    async with context.db.read() as session:
        found = await Factory(context, session).variables.of_owner(user, owner)
    status = 400 if problems else 200
    return render(
        request,
        "owner_variables.html",
        user=user,
        status=status,
        found=found,
        values=values or {},
        problems=problems or {},
    )
