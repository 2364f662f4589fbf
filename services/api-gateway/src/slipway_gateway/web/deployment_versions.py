"""Pages of a deployment's versions: one with its endpoints, builds and logs, and the form that makes a new one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ValidationError
from valohai_yaml.objs import Config

from slipway_gateway.code.domain import Commit
from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.data.store.datums import DatumFilter
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.deployments import DeploymentDetail
from slipway_gateway.inference.domain.records import Endpoint, Version
from slipway_gateway.inference.domain.request import EndpointUpdate, VersionRequest
from slipway_gateway.inference.trial import TrialAnswer, TrialRequest
from slipway_gateway.inference.versions import ServedEndpoint, served_by
from slipway_gateway.paging import PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.web.access import Form, PageForm, PageUser
from slipway_gateway.web.charts import Chart, charts_of
from slipway_gateway.web.deployments import REFUSED, WINDOW, deployment_at, traffic_charts
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.projects import address_of
from slipway_gateway.web.rendering import render
from slipway_kit.errors import Invalid, NotFound, SlipwayError, invalid_from_validation
from slipway_schemas.inference.statuses import EndpointStatus
from slipway_schemas.inference.versions import BuildLogPage, EndpointLines

router = APIRouter(
    prefix="/p/{owner}/{name}/deployment/{deployment_id}", include_in_schema=False, route_class=PageRoute
)

M = TypeVar("M", bound=BaseModel)

_CHANGING = frozenset({EndpointStatus.CREATED, EndpointStatus.BUILDING_IMAGE, EndpointStatus.DEPLOYING})
_LOG_LINES = 500
_SERIES_RECORDS = 2000
_CHOICES = 100


@dataclass(frozen=True)
class EndpointFileView:
    """A file that an endpoint of the YAML declares."""

    name: str
    path: str
    description: str


@dataclass(frozen=True)
class EndpointView:
    """An endpoint of a commit's YAML."""

    name: str
    image: str
    description: str
    files: tuple[EndpointFileView, ...]


@dataclass(frozen=True)
class _EndpointLogs:
    """What an endpoint's build and replicas said; None where nobody can tell now."""

    endpoint: Endpoint
    build: BuildLogPage | None
    log: EndpointLines | None
    series: list[Chart]


@router.get("/version/{version_id}/")
async def version(
    request: Request, owner: str, name: str, deployment_id: UUID, version_id: UUID, user: PageUser, context: Context
) -> Response:
    """One version with all that is known of it."""
    project, found = await _version_at(context, user, owner, name, deployment_id, version_id)
    return await _version(request, user, context, project, found)


@router.post("/version/{version_id}/{action}/")
async def act(
    request: Request,
    owner: str,
    name: str,
    deployment_id: UUID,
    version_id: UUID,
    action: str,
    user: PageUser,
    context: Context,
    form: PageForm,
) -> Response:
    """Switch, build again, cancel, scale, test or delete a version."""
    project, found = await _version_at(context, user, owner, name, deployment_id, version_id)
    versions = context.inference.versions
    back = address_of(project, "deployment", deployment_id, "version", version_id)
    try:
        match action:
            case "enable" | "disable":
                await versions.change(user, found.id, action == "enable")
            case "rebuild":
                await versions.rebuild(user, found.id)
            case "cancel":
                await versions.cancel(user, found.id)
            case "delete":
                await versions.delete(user, found.id)
                back = address_of(project, "deployment", deployment_id)
            case "scale":
                await versions.change_endpoint(user, _endpoint(found, form).id, _scale(form))
            case "test":
                served = ServedEndpoint(_endpoint(found, form), found)
                answer = await context.inference.trials.call(user, served, _trial(form))
                return await _version(request, user, context, project, found, form=form, answer=answer)
            case _:
                raise NotFound("There is nothing here.")
    except REFUSED as error:
        return await _version(request, user, context, project, found, form=form, problems=problems_of(error))
    return RedirectResponse(back, 303)


@router.get("/new-version/")
async def new_version(
    request: Request,
    owner: str,
    name: str,
    deployment_id: UUID,
    user: PageUser,
    context: Context,
    commit: str = "",
) -> Response:
    """The form of a new version."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    return await _form(request, user, context, project, detail, commit)


@router.post("/new-version/")
async def create_version(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Make a version and go to it."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        made = await context.inference.versions.create(user, _request(detail, form))
    except REFUSED as error:
        chosen = form.text("commit")
        return await _form(request, user, context, project, detail, chosen, form=form, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", deployment_id, "version", made.id), 303)


async def _version_at(
    context: GatewayContext, user: User, owner: str, name: str, deployment_id: UUID, version_id: UUID
) -> tuple[Project, Version]:
    project, _ = await deployment_at(context, user, owner, name, deployment_id)
    found = await context.inference.versions.get(user, version_id)
    if found.deployment.id != deployment_id:
        raise NotFound("This version does not exist in this deployment.")
    return project, found


async def _version(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    found: Version,
    *,
    form: Form | None = None,
    problems: Problems | None = None,
    answer: TrialAnswer | None = None,
) -> Response:
    versions = context.inference.versions
    traffic = await versions.traffic(served_by([found]), WINDOW)
    return render(
        request,
        "deployment_version.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        deployment=found.deployment,
        version=found,
        changing=found.effective_enabled and any(one.status in _CHANGING for one in found.endpoints),
        images=await versions.images(found.endpoints),
        datums=await versions.datums_of([found]),
        logs=await asyncio.gather(*(_logs(context, user, one) for one in found.endpoints)),
        traffic=traffic,
        charts=traffic_charts(traffic, context.clock.now().timestamp() / 60),
        form=form or Form([]),
        problems=problems or {},
        answer=answer,
    )


async def _logs(context: GatewayContext, user: User, endpoint: Endpoint) -> _EndpointLogs:
    build, log, series = await asyncio.gather(
        _build_log(context, user, endpoint), _log(context, user, endpoint), _series(context, user, endpoint)
    )
    return _EndpointLogs(endpoint, build, log, series)


async def _build_log(context: GatewayContext, user: User, endpoint: Endpoint) -> BuildLogPage | None:
    """The build's log; None when the builder is away: the page is shown anyway."""
    try:
        return await context.inference.versions.build_log(user, endpoint.id)
    except SlipwayError:
        return None


async def _log(context: GatewayContext, user: User, endpoint: Endpoint) -> EndpointLines | None:
    try:
        return await context.inference.versions.log(user, endpoint.id, limit=_LOG_LINES)
    except SlipwayError:
        return None


async def _series(context: GatewayContext, user: User, endpoint: Endpoint) -> list[Chart]:
    """Charts of what the replicas printed as metadata."""
    try:
        records = await context.inference.versions.metadata(user, endpoint.id, limit=_SERIES_RECORDS)
    except SlipwayError:
        return []
    return charts_of(records)


async def _form(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    detail: DeploymentDetail,
    reference: str,
    *,
    form: Form | None = None,
    problems: Problems | None = None,
) -> Response:
    found: Problems = dict(problems or {})
    async with context.db.read() as session:
        services = Factory(context, session)
        listed = await services.code.commits(user, PageRequest(limit=_CHOICES, count=False), project_id=project.id)
    commit, endpoints = None, list[EndpointView]()
    wanted = reference or (listed.items[0].identifier if listed.items else "")
    if wanted:
        try:
            commit, endpoints = await _endpoints_of(context, project, wanted)
        except SlipwayError as error:
            found.setdefault("commit", (error.message,))
    files = await context.data.datums.page(
        user, DatumFilter(project_id=project.id, purged=False), PageRequest(limit=_CHOICES, count=False)
    )
    return render(
        request,
        "deployment_version_new.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        deployment=detail.deployment,
        commits=listed.items,
        commit=commit,
        endpoints=endpoints,
        files=files.items,
        form=form or Form([]),
        posted=form is not None,
        problems=found,
    )


async def _endpoints_of(context: GatewayContext, project: Project, reference: str) -> tuple[Commit, list[EndpointView]]:
    async with context.db.read() as session:
        commit = await Factory(context, session).code.resolve_commit(project, reference)
    commit = await context.snapshots.ensure_config(project, commit)
    async with context.db.read() as session:
        config: Config = Factory(context, session).code.config_of(commit)
    views = [
        EndpointView(
            name=one.name,
            image=str(one.image or ""),
            description=str(one.description or ""),
            files=tuple(EndpointFileView(file.name, str(file.path), str(file.description or "")) for file in one.files),
        )
        for one in config.endpoints.values()
    ]
    return commit, views


def _request(detail: DeploymentDetail, form: Form) -> VersionRequest:
    configurations = {
        name: {
            "replicas": form.text(f"replicas:{name}") or 1,
            "replicas_max": form.text(f"replicas_max:{name}") or None,
            "files": {
                file: value.strip() for file, value in form.starting_with(f"file:{name}:").items() if value.strip()
            },
        }
        for name in form.starting_with("endpoint:")
    }
    variables = {}
    for line in form.text("environment_variables").splitlines():
        if line.strip():
            key, _, value = line.partition("=")
            variables[key.strip()] = value.strip()
    fields = {
        "deployment": detail.deployment.id,
        "commit": form.text("commit"),
        "name": form.text("version"),
        "inherit_environment_variables": form.has("inherit"),
        "environment_variables": variables,
        "endpoint_configurations": configurations,
    }
    return _validated(VersionRequest, fields)


def _scale(form: Form) -> EndpointUpdate:
    fields = {"replicas": form.text("replicas") or None, "replicas_max": form.text("replicas_max") or None}
    if fields["replicas_max"] is None:
        fields["replicas_max"] = fields["replicas"]
    return _validated(EndpointUpdate, fields)


def _trial(form: Form) -> TrialRequest:
    body = form.text("body")
    fields: dict[str, object] = {"method": form.text("method", "POST"), "path": form.text("path")}
    if body and fields["method"] not in ("GET", "HEAD"):
        kind = "application/json" if body[0] in '{["' else "text/plain"
        fields |= {"body": body, "headers": {"Content-Type": kind}}
    if form.text("key"):
        fields["key"] = form.text("key")
    return _validated(TrialRequest, fields)


def _validated(model: type[M], fields: Mapping[str, object]) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_from_validation(error.errors(include_url=False)) from error


def _endpoint(found: Version, form: Form) -> Endpoint:
    endpoint = next((one for one in found.endpoints if one.name == form.text("endpoint")), None)
    if endpoint is None:
        raise Invalid("The version has no such endpoint.", field="endpoint")
    return endpoint
