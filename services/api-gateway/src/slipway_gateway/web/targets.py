"""Pages of deployment targets, for administrators."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from slipway_gateway.context import GatewayContext
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.domain.records import Target
from slipway_gateway.inference.targets import TargetService
from slipway_gateway.web.access import Form, PageForm, PageUser
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.problems import problems_of
from slipway_gateway.web.rendering import page_path, render
from slipway_kit.errors import Conflict, Invalid, NotFound, SlipwayError, Unavailable, invalid_from_validation
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import MASK, CleanUpReport, TargetChange, TargetCheckView, TargetDraft

router = APIRouter(prefix="/admin/targets", include_in_schema=False, route_class=PageRoute)

_PATH = page_path("admin", "targets")
_SHOWN = (Invalid, Conflict, Unavailable)
"""What a form can meet; the page is shown again and says it."""


@dataclass(frozen=True)
class Place:
    """One target's page and who is on it."""

    request: Request
    context: GatewayContext
    user: User
    target: Target

    @property
    def service(self) -> TargetService:
        """Use cases of targets."""
        return self.context.inference.targets

    @property
    def path(self) -> str:
        """Of the page."""
        return page_path("admin", "targets", self.target.id)


def _administrator(user: PageUser) -> User:
    if not user.is_admin:
        raise NotFound("There is nothing here.")
    return user


Administrator = Annotated[User, Depends(_administrator)]


async def _place(request: Request, context: Context, user: Administrator, target_id: UUID) -> Place:
    targets = await context.inference.targets.all()
    target = next((one for one in targets if one.id == target_id), None)
    if target is None:
        raise NotFound("This target does not exist.")
    return Place(request, context, user, target)


AtTarget = Annotated[Place, Depends(_place)]


@router.get("/")
async def targets(request: Request, user: Administrator, context: Context) -> Response:
    """All targets, and the form for another one."""
    return await _list(request, user, context)


@router.post("/")
async def add(request: Request, user: Administrator, context: Context, form: PageForm) -> Response:
    """Add a target. Its page shows the token of its routers in this one answer."""
    service = context.inference.targets
    try:
        draft = TargetDraft.model_validate(
            {
                "name": form.text("name"),
                "kind": form.text("kind"),
                "public_url": form.text("public_url"),
                "settings": _settings(form),
            }
        )
        made = await service.create(user, draft)
    except ValidationError as error:
        return await _list(request, user, context, form, invalid_from_validation(error.errors()))
    except _SHOWN as error:
        return await _list(request, user, context, form, error)
    place = await _place(request, context, user, made.id)
    return await _detail(place, router_token=made.router_token)


@router.get("/{target_id}/")
async def target(place: AtTarget) -> Response:
    """A target and what can be done with it."""
    return await _detail(place)


@router.post("/{target_id}/")
async def change(place: AtTarget, form: PageForm) -> Response:
    """Change address and settings."""
    try:
        wanted = TargetChange.model_validate({"public_url": form.text("public_url"), "settings": _settings(form)})
        await place.service.change(place.user, place.target.id, wanted)
    except ValidationError as error:
        return await _detail(place, form=form, error=invalid_from_validation(error.errors()))
    except _SHOWN as error:
        return await _detail(place, form=form, error=error)
    return RedirectResponse(place.path, 303)


@router.post("/{target_id}/default/")
async def make_default(place: AtTarget, form: PageForm) -> Response:
    """Make it the one that new deployments get."""
    await place.service.change(place.user, place.target.id, TargetChange(is_default=True))
    return RedirectResponse(place.path, 303)


@router.post("/{target_id}/check/")
async def check(place: AtTarget, form: PageForm) -> Response:
    """Test the connection and every right."""
    try:
        found = await place.service.check(place.user, place.target.id)
    except _SHOWN as error:
        return await _detail(place, error=error)
    return await _detail(place, checks=found.checks)


@router.post("/{target_id}/clean-up/")
async def clean_up(place: AtTarget, form: PageForm) -> Response:
    """Show the images that no version needs, or delete them."""
    try:
        report = await place.service.clean_up(place.user, place.target.id, dry_run=not form.has("delete"))
    except _SHOWN as error:
        return await _detail(place, error=error)
    return await _detail(place, clean_up=report)


@router.post("/{target_id}/router-token/")
async def renew_router_token(place: AtTarget, form: PageForm) -> Response:
    """Make a new token for the routers and show it in this one answer."""
    made = await place.service.renew_router_token(place.user, place.target.id)
    return await _detail(place, router_token=made.router_token)


@router.post("/{target_id}/delete/")
async def delete(place: AtTarget, form: PageForm) -> Response:
    """Remove a target that nothing uses."""
    try:
        await place.service.delete(place.user, place.target.id, force=form.has("force"))
    except _SHOWN as error:
        return await _detail(place, error=error)
    return RedirectResponse(_PATH, 303)


def _settings(form: Form) -> JsonObject:
    """The settings of a form; a kubeconfig has a field of its own, because it has lines. Raises `Invalid`."""
    try:
        found = json.loads(form.text("settings") or "{}")
    except ValueError as error:
        raise Invalid(f"This is not JSON: {error}.", field="settings") from error
    if not isinstance(found, dict):
        raise Invalid('Write a JSON object, such as {"cluster": {"namespace": "slipway-endpoints"}}.', field="settings")
    kubeconfig = form.exact("kubeconfig").strip()
    if kubeconfig:
        found["cluster"] = {**found.get("cluster", {}), "kubeconfig": f"{kubeconfig}\n"}
    return found


async def _list(
    request: Request, user: User, context: GatewayContext, form: Form | None = None, error: SlipwayError | None = None
) -> Response:
    return render(
        request,
        "targets.html",
        user=user,
        status=400 if error else 200,
        targets=await context.inference.targets.all(),
        kinds=[one.value for one in TargetKind],
        form=form or Form([]),
        problems=problems_of(error) if error else {},
    )


async def _detail(
    place: Place,
    *,
    form: Form | None = None,
    error: SlipwayError | None = None,
    router_token: str | None = None,
    checks: Sequence[TargetCheckView] = (),
    clean_up: CleanUpReport | None = None,
) -> Response:
    detail = await place.service.detail(place.user, place.target.id)
    return render(
        place.request,
        "target.html",
        user=place.user,
        status=400 if error else 200,
        target=place.target,
        settings=json.dumps(detail.settings, indent=2),
        mask=MASK,
        form=form or Form([]),
        problems=problems_of(error) if error else {},
        router_token=router_token,
        checks=checks,
        clean_up=clean_up,
    )
