"""The page of environments and their workers."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from slipway_gateway.context import Factory
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.paging import PageRequest
from slipway_gateway.web.access import PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.rendering import render
from slipway_gateway.web.store import PageStore

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/environments/")
async def environments(request: Request, user: PageUser, context: Context) -> Response:
    """Environments that the person may use, with their queues and workers."""
    async with context.db.read() as session:
        page = await Factory(context, session).environments.page(user, PageRequest())
        workers = await PageStore(session).workers([one.id for one in page.items])
    groups = [(one, [worker for worker in workers if worker.environment_id == one.id]) for one in page.items]
    return render(request, "environments.html", user=user, groups=groups)
