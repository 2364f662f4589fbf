"""The first page, and the form of a new project."""

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.projects.domain import DEFAULT_YAML_PATH, ExecutionCounts, Project
from slipway_gateway.web.access import PageForm, PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.pager import Offset, pager_of, part
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.rendering import page_path, render
from slipway_kit.errors import Invalid

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_EMPTY = {"name": "", "owner": "", "description": "", "yaml_path": DEFAULT_YAML_PATH}


@dataclass(frozen=True)
class ProjectLine:
    """A project with what goes on in it."""

    project: Project
    running: int
    waiting: int
    total: int
    newest_at: datetime | None


def project_line(project: Project, counts: ExecutionCounts) -> ProjectLine:
    """A project with its executions counted."""
    status = counts.by_status
    return ProjectLine(
        project,
        running=status.get("started", 0) + status.get("stopping", 0),
        waiting=status.get("created", 0) + status.get("queued", 0),
        total=counts.total,
        newest_at=counts.newest_at,
    )


@router.get("/")
async def home(request: Request, user: PageUser, context: Context, offset: Offset = 0) -> Response:
    """Projects that the person may see."""
    async with context.db.read() as session:
        services = Factory(context, session)
        page = await services.projects.page(user, part(offset))
        counts = await services.projects.execution_counts(page.items)
    lines = [project_line(one, counts[one.id]) for one in page.items]
    return render(request, "home.html", user=user, projects=lines, page=pager_of(request, page, offset))


@router.get("/projects/new/")
async def new_project(request: Request, user: PageUser, context: Context) -> Response:
    """The form of a new project."""
    return await _new_project(request, user, context, _EMPTY, {})


@router.post("/projects/new/")
async def create_project(request: Request, user: PageUser, context: Context, form: PageForm) -> Response:
    """Make a project and go to it."""
    values = {name: form.text(name, default) for name, default in _EMPTY.items()}
    try:
        async with context.db.transaction() as session:
            project = await Factory(context, session).projects.create(user, **values)
    except Invalid as error:
        return await _new_project(request, user, context, values, problems_of(error))
    return RedirectResponse(page_path("p", project.owner_slug, project.slug), 303)


async def _new_project(
    request: Request, user: User, context: GatewayContext, values: dict[str, str], problems: Problems
) -> Response:
    async with context.db.read() as session:
        owners = await Factory(context, session).accounts.owners_for(user)
    status = 400 if problems else 200
    return render(
        request, "project_new.html", user=user, status=status, owners=owners, values=values, problems=problems
    )
