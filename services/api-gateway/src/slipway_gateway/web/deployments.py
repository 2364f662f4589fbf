"""Pages of deployments: those of a project, and one with its versions, aliases, keys and traffic."""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from slipway_gateway.context import GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.deployments import DeploymentDetail
from slipway_gateway.inference.domain.metrics import TrafficReport
from slipway_gateway.inference.domain.request import DeploymentCreate, DeploymentUpdate
from slipway_gateway.inference.keys import IssuedKey
from slipway_gateway.inference.services import InferenceServices
from slipway_gateway.inference.store.versions import VersionFilter
from slipway_gateway.inference.versions import served_by
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


@dataclass(frozen=True)
class DeploymentPlace:
    """The page of a deployment, and who is there."""

    request: Request
    user: User
    context: GatewayContext
    project: Project
    detail: DeploymentDetail

    @property
    def id(self) -> UUID:
        """The deployment's."""
        return self.detail.deployment.id

    @property
    def services(self) -> InferenceServices:
        """Use cases of inference."""
        return self.context.inference


async def _place(
    request: Request, owner: str, name: str, deployment_id: UUID, user: PageUser, context: Context
) -> DeploymentPlace:
    project, detail = await deployment_at(context, user, owner, name, deployment_id)
    return DeploymentPlace(request, user, context, project, detail)


Place = Annotated[DeploymentPlace, Depends(_place)]


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
async def deployment(place: Place) -> Response:
    """One deployment with all that is known of it."""
    return await _deployment(place)


@router.post("/deployment/{deployment_id}/switch/")
async def switch(place: Place, form: PageForm) -> Response:
    """Enable or disable a deployment; open it to all or close it."""
    change = DeploymentUpdate(enabled=_switched(form, "enabled"), public=_switched(form, "public"))
    return await _done(place, place.services.deployments.change(place.user, place.id, change))


@router.post("/deployment/{deployment_id}/delete/")
async def delete(place: Place, form: PageForm) -> Response:
    """Delete a deployment whose name was typed."""
    name = place.detail.deployment.name
    if form.text("confirm") != name:
        return await _deployment(place, problems={"confirm": (f"Type the name, {name}, to delete the deployment.",)})
    deleted = place.services.deployments.delete(place.user, place.id)
    return await _done(place, deleted, back=address_of(place.project, "deployments"))


@router.post("/deployment/{deployment_id}/aliases/")
async def move_alias(place: Place, form: PageForm) -> Response:
    """Point an alias at a version, or at two with a share for the second one; or make one."""

    async def move() -> None:
        wanted = await _alias_move(place, form)
        await place.services.deployments.move_alias(place.user, place.id, form.text("alias"), wanted)

    return await _done(place, move(), form=form, fields={"name": "alias"})


@router.post("/deployment/{deployment_id}/aliases/rollback/")
async def roll_back_alias(place: Place, form: PageForm) -> Response:
    """Point an alias at the version that it had before."""
    return await _done(place, place.services.deployments.roll_back_alias(place.user, place.id, form.text("alias")))


@router.post("/deployment/{deployment_id}/aliases/delete/")
async def delete_alias(place: Place, form: PageForm) -> Response:
    """Remove an alias."""
    return await _done(place, place.services.deployments.delete_alias(place.user, place.id, form.text("alias")))


@router.post("/deployment/{deployment_id}/keys/")
async def create_key(place: Place, form: PageForm) -> Response:
    """Make a key and show it, once."""
    try:
        days = _number(form, "days", 3650)
        issued = await place.services.keys.issue(
            place.user,
            place.id,
            consumer=form.text("consumer"),
            endpoints=form.text("endpoints").replace(",", " ").split(),
            expires_at=place.context.clock.now() + timedelta(days=days) if days else None,
            requests_per_minute=_number(form, "requests_per_minute", 1_000_000),
        )
    except REFUSED as error:
        return await _deployment(place, form=form, problems=problems_of(error))
    return await _deployment(place, issued=issued)


@router.post("/deployment/{deployment_id}/keys/revoke/")
async def revoke_key(place: Place, form: PageForm) -> Response:
    """End a key."""
    return await _done(place, place.services.keys.revoke(place.user, place.id, _uuid(form.text("key"))))


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


async def _done(
    place: DeploymentPlace,
    action: Coroutine[Any, Any, object],
    *,
    form: Form | None = None,
    fields: Mapping[str, str] | None = None,
    back: str | None = None,
) -> Response:
    """Do what a form asks for and go back to the page, or show the page with what was refused.

    `fields` names the fields of the form that are called otherwise by who refuses.
    """
    try:
        await action
    except REFUSED as error:
        named = {(fields or {}).get(field, field): texts for field, texts in problems_of(error).items()}
        return await _deployment(place, form=form, problems=named)
    return RedirectResponse(back or address_of(place.project, "deployment", place.id), 303)


async def _deployment(
    place: DeploymentPlace,
    *,
    form: Form | None = None,
    problems: Problems | None = None,
    issued: IssuedKey | None = None,
) -> Response:
    services, user, found = place.services, place.user, place.detail.deployment
    wanted = VersionFilter(deployment_id=found.id)
    versions = (await services.versions.page(user, wanted, PageRequest(limit=50, count=False))).items
    traffic = await services.versions.traffic(served_by(versions), WINDOW)
    now = place.context.clock.now()
    return render(
        place.request,
        "deployment.html",
        user=user,
        status=400 if problems else 200,
        project=place.project,
        deployment=found,
        aliases=place.detail.aliases,
        versions=versions,
        moves=await services.deployments.alias_moves(user, found.id),
        keys=await services.keys.of_deployment(user, found.id),
        traffic=traffic,
        charts=traffic_charts(traffic, now.timestamp() / 60),
        form=form or Form([]),
        problems=problems or {},
        issued=issued,
    )


async def _alias_move(place: DeploymentPlace, form: Form) -> AliasMove:
    versions = place.services.versions
    version = await versions.named(place.user, place.id, form.text("version"), field="version")
    canary = None
    if form.text("canary"):
        canary = await versions.named(place.user, place.id, form.text("canary"), field="canary")
    percent = _number(form, "canary_percent", 100)
    if (canary is None) != (percent is None):
        raise Invalid("A canary needs a version and its share of the requests.", field="canary_percent")
    return AliasMove(
        version_id=version.id,
        canary_version_id=None if canary is None else canary.id,
        canary_percent=percent or 0,
        sticky=canary is None or form.has("sticky"),
        max_error_percent=_decimal(form, "max_error_percent", 100),
        max_latency_ms=_decimal(form, "max_latency_ms", 3_600_000),
        reason=form.text("reason")[:1000],
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


def _decimal(form: Form, field: str, most: int) -> float | None:
    text = form.text(field).replace(",", ".")
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= most:
        raise Invalid(f"Use a number above 0 and up to {most}, or nothing.", field=field)
    return found


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("This key does not exist, or you may not see it.") from None
