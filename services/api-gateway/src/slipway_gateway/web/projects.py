"""Pages of a project: overview, repository, variables."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from slipway_gateway.code.domain import FetchResult
from slipway_gateway.code.remotes import parse_remote
from slipway_gateway.code.service import RepositoryLink
from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.data.store.datums import DatumFilter
from slipway_gateway.executions.store import ExecutionFilter
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.projects.domain import Project
from slipway_gateway.web.access import PageForm, PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.home import project_line
from slipway_gateway.web.pager import Offset, pager_of, part
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.rendering import page_path, render
from slipway_kit.errors import Invalid

router = APIRouter(prefix="/p/{owner}/{name}", include_in_schema=False, route_class=PageRoute)

_RECENT = 10
_FEW = 5
_FAILURE_DAYS = 30


async def project_at(context: GatewayContext, user: User, owner: str, name: str) -> Project:
    """The project at an address, if the person may see it. Raises `NotFound`."""
    async with context.db.read() as session:
        return await Factory(context, session).projects.by_names(user, owner, name)


def address_of(project: Project, *parts: object) -> str:
    """The address of a page of a project."""
    return page_path("p", project.owner_slug, project.slug, *parts)


@router.get("/")
async def overview(request: Request, owner: str, name: str, user: PageUser, context: Context) -> Response:
    """What goes on in a project."""
    async with context.db.read() as session:
        services = Factory(context, session)
        project = await services.projects.by_names(user, owner, name)
        counts = await services.projects.execution_counts([project])
        repository = await services.code.repository(project)
        commits = await services.code.commits(user, part(0, size=_FEW), project_id=project.id)
    executions = await context.executions.page(user, ExecutionFilter(project_id=project.id), part(0, size=_RECENT))
    files = await context.data.datums.page(user, DatumFilter(project_id=project.id), part(0, size=_FEW))
    return render(
        request,
        "project.html",
        user=user,
        project=project,
        line=project_line(project, counts[project.id]),
        repository=repository,
        commits=commits.items,
        executions=executions,
        files=files.items,
        failures=await context.failures.failures(project.id, days=_FAILURE_DAYS, limit=_FEW),
        failure_days=_FAILURE_DAYS,
    )


@router.get("/commits/")
async def commits(
    request: Request, owner: str, name: str, user: PageUser, context: Context, offset: Offset = 0
) -> Response:
    """Commits and ad-hoc packages of a project."""
    async with context.db.read() as session:
        services = Factory(context, session)
        project = await services.projects.by_names(user, owner, name)
        repository = await services.code.repository(project)
        page = await services.code.commits(user, part(offset), project_id=project.id)
    return render(
        request,
        "commits.html",
        user=user,
        project=project,
        repository=repository,
        commits=page.items,
        page=pager_of(request, page, offset),
    )


@router.get("/repository/")
async def repository(request: Request, owner: str, name: str, user: PageUser, context: Context) -> Response:
    """The repository of a project, and the form that links one."""
    return await _repository(request, user, context, await project_at(context, user, owner, name))


@router.post("/repository/")
async def link_repository(
    request: Request, owner: str, name: str, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Link a repository."""
    project = await project_at(context, user, owner, name)
    values = {"url": form.text("url"), "ref": form.text("ref"), "username": form.text("username")}
    token = form.text("token") or ("" if form.has("remove_token") else None)
    try:
        async with context.db.transaction() as session:
            services = Factory(context, session)
            project = await services.projects.get_writable(user, project.id)
            context.snapshots.remotes.check_local(parse_remote(values["url"]))
            link = RepositoryLink(values["url"], values["ref"], values["username"], token)
            await services.code.link_repository(project, link)
    except Invalid as error:
        return await _repository(request, user, context, project, values=values, problems=problems_of(error))
    return RedirectResponse(address_of(project, "repository"), 303)


@router.post("/fetch/")
async def fetch(request: Request, owner: str, name: str, user: PageUser, context: Context, _form: PageForm) -> Response:
    """Fetch branches and tags, and say what that brought."""
    project = await project_at(context, user, owner, name)
    try:
        result = await context.snapshots.fetch(project)
    except Invalid as error:
        result = FetchResult(commits=(), errors=(error.message,))
    return await _repository(request, user, context, project, fetched=result)


@router.get("/variables/")
async def variables(request: Request, owner: str, name: str, user: PageUser, context: Context) -> Response:
    """Environment variables of all runs of a project."""
    return _variables(request, user, await project_at(context, user, owner, name), {}, {})


@router.post("/variables/")
async def put_variable(
    request: Request, owner: str, name: str, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Set a variable."""
    project = await project_at(context, user, owner, name)
    variable, value, secret = form.text("name"), form.text("value"), form.has("secret")
    try:
        async with context.db.transaction() as session:
            projects = Factory(context, session).projects
            await projects.put_variable(user, project.id, variable, value, secret=secret)
    except Invalid as error:
        # The value is not sent back to the page: it may be a secret.
        return _variables(request, user, project, {"name": variable, "secret": secret}, problems_of(error))
    return RedirectResponse(address_of(project, "variables"), 303)


@router.post("/variables/delete/")
async def delete_variable(owner: str, name: str, user: PageUser, context: Context, form: PageForm) -> Response:
    """Remove a variable."""
    async with context.db.transaction() as session:
        projects = Factory(context, session).projects
        project = await projects.by_names(user, owner, name)
        await projects.delete_variable(user, project.id, form.text("name"))
    return RedirectResponse(address_of(project, "variables"), 303)


def _variables(request: Request, user: User, project: Project, values: dict[str, Any], problems: Problems) -> Response:
    status = 400 if problems else 200
    return render(
        request, "variables.html", user=user, status=status, project=project, values=values, problems=problems
    )


async def _repository(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    *,
    values: dict[str, str] | None = None,
    problems: Problems | None = None,
    fetched: FetchResult | None = None,
) -> Response:
    async with context.db.read() as session:
        found = await Factory(context, session).code.repository(project)
    if values is None:
        values = {
            "url": found.url if found else "",
            "ref": found.ref if found else "",
            "username": found.username if found else "",
        }
    return render(
        request,
        "repository.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        repository=found,
        values=values,
        problems=problems or {},
        fetched=fetched,
    )
