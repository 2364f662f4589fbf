"""The page of a commit, and the form that runs one of its steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from slipway_gateway.code.domain import Commit, ConfigError
from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.store import ExecutionFilter
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.web.access import Form, PageForm, PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.pager import part
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.projects import address_of, project_at
from slipway_gateway.web.rendering import render
from slipway_gateway.web.steps import StepView, steps_of
from slipway_kit.errors import Invalid, NotFound, SlipwayError, invalid_from_validation

router = APIRouter(prefix="/p/{owner}/{name}/commit/{identifier}", include_in_schema=False, route_class=PageRoute)

by_id_router = APIRouter(include_in_schema=False, route_class=PageRoute)

_RECENT = 10
_OPTIONAL = ("title", "environment", "image")


@dataclass(frozen=True)
class CommitView:
    """A commit with its steps, or with what is wrong with its YAML."""

    commit: Commit
    steps: list[StepView]
    error: ConfigError | None


async def _commit_at(
    context: GatewayContext, user: User, owner: str, name: str, identifier: str
) -> tuple[Project, CommitView]:
    project = await project_at(context, user, owner, name)
    async with context.db.read() as session:
        commit = await Factory(context, session).code.resolve_commit(project, identifier)
    if commit.config is None and commit.config_error is None:
        try:
            commit = await context.snapshots.ensure_config(project, commit)
        except SlipwayError as error:
            return project, CommitView(commit, [], ConfigError(error.message))
    if commit.config_error is not None:
        return project, CommitView(commit, [], commit.config_error)
    async with context.db.read() as session:
        steps = steps_of(Factory(context, session).code.config_of(commit))
    return project, CommitView(commit, steps, None)


@router.get("/")
async def commit(
    request: Request, owner: str, name: str, identifier: str, user: PageUser, context: Context
) -> Response:
    """What a commit holds: steps, or problems of its YAML."""
    project, view = await _commit_at(context, user, owner, name, identifier)
    wanted = ExecutionFilter(project_id=project.id, commit=view.commit.identifier)
    executions = await context.executions.page(user, wanted, part(0, size=_RECENT))
    return render(request, "commit.html", user=user, project=project, view=view, executions=executions.items)


@by_id_router.get("/projects/{project_id}/commits/{identifier}/")
async def commit_of_project(project_id: UUID, identifier: str, user: PageUser, context: Context) -> Response:
    """The address that the API gives, which knows the project's id only: on to the commit's page."""
    async with context.db.read() as session:
        factory = Factory(context, session)
        project = await factory.projects.get_visible(user, project_id)
        commit = await factory.code.resolve_commit(project, identifier)
    return RedirectResponse(address_of(project, "commit", commit.identifier), 307)


@router.get("/run/")
async def run_form(
    request: Request, owner: str, name: str, identifier: str, user: PageUser, context: Context, step: str = ""
) -> Response:
    """The form that runs a step."""
    project, view = await _commit_at(context, user, owner, name, identifier)
    return await _run_page(request, user, context, project, view, step)


@router.post("/run/")
async def run(
    request: Request, owner: str, name: str, identifier: str, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Make an execution and go to it."""
    project, view = await _commit_at(context, user, owner, name, identifier)
    chosen = next((one for one in view.steps if one.name == form.text("step")), None)
    if chosen is None:
        raise NotFound("The commit has no such step.")
    try:
        detail = await context.executions.create(user, _request_of(project, view.commit, chosen, form))
    except Invalid as error:
        return await _run_page(request, user, context, project, view, chosen.name, form, problems_of(error))
    return RedirectResponse(address_of(project, "execution", detail.execution.id), 303)


def _request_of(project: Project, commit: Commit, step: StepView, form: Form) -> RunRequest:
    """What the form asks for. A field that still has its default is left to the step."""
    parameters: dict[str, Any] = {}
    for one in step.parameters:
        field = f"parameter:{one.name}"
        if one.type == "flag":
            if form.has(field):
                parameters[one.name] = True
        elif form.has(field) and form.text(field) != one.default_text.strip():
            parameters[one.name] = one.value_of(form.text(field))
    inputs = {
        one.name: form.text(f"input:{one.name}").split()
        for one in step.inputs
        if form.has(f"input:{one.name}") and form.text(f"input:{one.name}").split() != list(one.urls)
    }
    optional = {field: form.text(field) or None for field in _OPTIONAL}
    tags = [tag.strip() for tag in form.text("tags").split(",") if tag.strip()]
    fields: Mapping[str, Any] = {
        "project": project.id,
        "commit": commit.identifier,
        "step": step.name,
        "parameters": parameters,
        "inputs": inputs,
        "tags": tags,
        **optional,
    }
    try:
        return RunRequest.model_validate(fields)
    except ValidationError as error:
        raise invalid_from_validation(error.errors(include_url=False)) from error


async def _run_page(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    view: CommitView,
    step: str,
    form: Form | None = None,
    problems: Problems | None = None,
) -> Response:
    chosen = next((one for one in view.steps if one.name == step), view.steps[0] if view.steps else None)
    async with context.db.read() as session:
        environments = (await Factory(context, session).environments.page(user, PageRequest())).items
    return render(
        request,
        "run.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        view=view,
        chosen=chosen,
        environments=environments,
        form=form or Form([]),
        posted=form is not None,
        problems=problems or {},
    )
