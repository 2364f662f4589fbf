"""Pages of deployments: those of a project, and one with its versions, aliases, keys and traffic."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from slipway_gateway.context import GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.deployments import DeploymentDetail
from slipway_gateway.inference.domain.metrics import TrafficReport
from slipway_gateway.inference.domain.request import DeploymentCreate, DeploymentUpdate
from slipway_gateway.inference.keys import IssuedKey
from slipway_gateway.inference.store.versions import VersionFilter
from slipway_gateway.paging import PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.web.access import Form, PageForm, PageUser
from slipway_gateway.web.charts import Chart, chart
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.pager import Offset, pager_of, part
from slipway_gateway.web.problems import Problems, problems_of
from slipway_gateway.web.projects import address_of, project_at
from slipway_gateway.web.rendering import render
from slipway_kit.errors import Conflict, Invalid, NotFound, Unavailable, invalid_from_validation
from slipway_schemas.inference.versions import AliasMove

router = APIRouter(prefix="/p/{owner}/{name}", include_in_schema=False, route_class=PageRoute)

REFUSED = (Invalid, Conflict, Unavailable)
"""What a form can meet; the page is shown again and says it."""
WINDOW = timedelta(hours=1)
_FEWEST_POINTS = 2


@router.get("/deployments/")
async def deployments(
    request: Request, owner: str, name: str, user: PageUser, context: Context, offset: Offset = 0
) -> Response:
    """Deployments of a project, and the form of a new one."""
    project = await project_at(context, user, owner, name)
    return await _deployments(request, user, context, project, offset=offset)


@router.post("/deployments/")
async def create_deployment(
    request: Request, owner: str, name: str, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Make a deployment and go to it."""
    project = await project_at(context, user, owner, name)
    try:
        wanted = _creation(project, form)
        made = await context.inference.deployments.create(user, wanted)
    except REFUSED as error:
        return await _deployments(request, user, context, project, form=form, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", made.deployment.id), 303)


@router.get("/deployment/{deployment_id}/")
async def deployment(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context
) -> Response:
    """One deployment with all that is known of it."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    return await _deployment(request, user, context, project, detail)


@router.post("/deployment/{deployment_id}/switch/")
async def switch(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Enable or disable a deployment; open it to all or close it."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    change = DeploymentUpdate(enabled=_switched(form, "enabled"), public=_switched(form, "public"))
    try:
        await context.inference.deployments.change(user, deployment_id, change)
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", deployment_id), 303)


@router.post("/deployment/{deployment_id}/delete/")
async def delete(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Delete a deployment whose name was typed."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        if form.text("confirm") != detail.deployment.name:
            raise Invalid(f"Type the name, {detail.deployment.name}, to delete the deployment.", field="confirm")
        await context.inference.deployments.delete(user, deployment_id)
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployments"), 303)


@router.post("/deployment/{deployment_id}/aliases/")
async def move_alias(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Point an alias at a version, or make one."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        version = await context.inference.versions.named(user, deployment_id, form.text("version"), field="version")
        move = AliasMove(version_id=version.id, reason=form.text("reason")[:1000])
        await context.inference.deployments.move_alias(user, deployment_id, form.text("alias"), move)
    except REFUSED as error:
        found = problems_of(error)
        named = {"alias" if field == "name" else field: texts for field, texts in found.items()}
        return await _deployment(request, user, context, project, detail, form=form, problems=named)
    return RedirectResponse(address_of(project, "deployment", deployment_id), 303)


@router.post("/deployment/{deployment_id}/aliases/rollback/")
async def roll_back_alias(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Point an alias at the version that it had before."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        await context.inference.deployments.roll_back_alias(user, deployment_id, form.text("alias"))
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", deployment_id), 303)


@router.post("/deployment/{deployment_id}/aliases/delete/")
async def delete_alias(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Remove an alias."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        await context.inference.deployments.delete_alias(user, deployment_id, form.text("alias"))
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", deployment_id), 303)


@router.post("/deployment/{deployment_id}/keys/")
async def create_key(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """Make a key and show it, once."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        issued = await context.inference.keys.issue(
            user,
            deployment_id,
            consumer=form.text("consumer"),
            endpoints=form.text("endpoints").replace(",", " ").split(),
            expires_at=context.clock.now() + timedelta(days=days) if (days := _number(form, "days", 3650)) else None,
            requests_per_minute=_number(form, "requests_per_minute", 1_000_000),
        )
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, form=form, problems=problems_of(error))
    return await _deployment(request, user, context, project, detail, issued=issued)


@router.post("/deployment/{deployment_id}/keys/revoke/")
async def revoke_key(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context, form: PageForm
) -> Response:
    """End a key."""
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    try:
        await context.inference.keys.revoke(user, deployment_id, _uuid(form.text("key")))
    except REFUSED as error:
        return await _deployment(request, user, context, project, detail, problems=problems_of(error))
    return RedirectResponse(address_of(project, "deployment", deployment_id), 303)


async def deployment_at(
    context: GatewayContext, user: User, owner: str, name: str, deployment_id: UUID
) -> tuple[Project, DeploymentDetail]:
    """The project and the deployment at an address. Raises `NotFound`."""
    project = await project_at(context, user, owner, name)
    detail = await context.inference.deployments.get(user, deployment_id)
    if detail.deployment.project_id != project.id:
        raise NotFound("This deployment does not exist in this project.")
    return project, detail


def traffic_charts(traffic: TrafficReport, now_minutes: float) -> list[Chart]:
    """Requests, server errors and latency by minute; none when there were too few."""
    if len(traffic.minutes) < _FEWEST_POINTS:
        return []
    series = (
        ("Requests per minute", [float(one.requests) for one in traffic.minutes]),
        ("Server errors, %", [one.error_percent for one in traffic.minutes]),
        ("Latency p95, ms", [one.latency_ms_p95 or 0.0 for one in traffic.minutes]),
    )
    at = [round(one.minute.timestamp() / 60 - now_minutes) for one in traffic.minutes]
    return [chart(name, list(zip(at, values, strict=True)), "minute") for name, values in series]


async def _deployments(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    *,
    offset: int = 0,
    form: Form | None = None,
    problems: Problems | None = None,
) -> Response:
    page = await context.inference.deployments.page(user, part(offset), project_id=project.id)
    return render(
        request,
        "deployments.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        deployments=page.items,
        page=pager_of(request, page, offset),
        targets=await context.inference.targets.all(),
        form=form or Form([]),
        problems=problems or {},
    )


async def _deployment(
    request: Request,
    user: User,
    context: GatewayContext,
    project: Project,
    detail: DeploymentDetail,
    *,
    form: Form | None = None,
    problems: Problems | None = None,
    issued: IssuedKey | None = None,
) -> Response:
    services, found = context.inference, detail.deployment
    wanted = VersionFilter(deployment_id=found.id)
    versions = (await services.versions.page(user, wanted, PageRequest(limit=50, count=False))).items
    traffic = await services.versions.traffic([one for version in versions for one in version.endpoints], WINDOW)
    now = context.clock.now()
    keys: Sequence[object] = await services.keys.of_deployment(user, found.id)
    return render(
        request,
        "deployment.html",
        user=user,
        status=400 if problems else 200,
        project=project,
        deployment=found,
        aliases=detail.aliases,
        versions=versions,
        moves=await services.deployments.alias_moves(user, found.id),
        keys=keys,
        traffic=traffic,
        charts=traffic_charts(traffic, now.timestamp() / 60),
        form=form or Form([]),
        problems=problems or {},
        issued=issued,
    )


def _creation(project: Project, form: Form) -> DeploymentCreate:
    fields = {
        "project": project.id,
        "name": form.text("deployment"),
        "target": form.text("target"),
        "public": form.has("public"),
    }
    try:
        return DeploymentCreate.model_validate(fields)
    except ValidationError as error:
        raise invalid_from_validation(error.errors(include_url=False)) from error


def _switched(form: Form, field: str) -> bool | None:
    return {"on": True, "off": False}.get(form.text(field))


def _number(form: Form, field: str, most: int) -> int | None:
    text = form.text(field)
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:12]) <= most:
        raise Invalid(f"Use a number from 1 to {most}, or nothing.", field=field)
    return int(text)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("This key does not exist, or you may not see it.") from None
