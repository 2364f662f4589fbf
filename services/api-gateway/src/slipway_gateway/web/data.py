"""Pages of files."""

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.data.store.datums import DatumFilter
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.web.access import PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.pager import Offset, pager_of, part
from slipway_gateway.web.projects import project_at
from slipway_gateway.web.rendering import render
from slipway_kit.errors import NotFound

router = APIRouter(prefix="/p/{owner}/{name}/data", include_in_schema=False, route_class=PageRoute)


@router.get("/")
async def files(
    request: Request,
    owner: str,
    name: str,
    user: PageUser,
    context: Context,
    search: str = "",
    tag: str = "",
    offset: Offset = 0,
) -> Response:
    """Files of a project, by name and tag."""
    project = await project_at(context, user, owner, name)
    wanted = DatumFilter(project_id=project.id, name=search.strip() or None, tags=(tag.strip(),) if tag.strip() else ())
    page = await context.data.datums.page(user, wanted, part(offset))
    return render(
        request,
        "data.html",
        user=user,
        project=project,
        files=page.items,
        page=pager_of(request, page, offset),
        filters={"search": search, "tag": tag},
    )


@router.get("/{datum_id}/download/")
async def download(owner: str, name: str, datum_id: UUID, user: PageUser, context: Context) -> Response:
    """Go to the bytes of a file, at a signed address."""
    project = await project_at(context, user, owner, name)
    datum = await context.data.datums.get(user, datum_id)
    if datum.project_id != project.id:
        raise NotFound("This file does not exist in this project.")
    url = await context.data.datums.signed_url(datum)
    return RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
