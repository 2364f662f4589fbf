"""`deployments/`, `deployment-versions/` and `deployment-endpoints/` of the compatible API (contract 4.3)."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import JSONResponse

from slipway_gateway.context import GatewayContext
from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.inference.deployments import DeploymentDetail
from slipway_gateway.inference.domain.records import Version
from slipway_gateway.inference.domain.request import (
    DeploymentCreate,
    DeploymentUpdate,
    EndpointUpdate,
    SwitchUpdate,
    VersionRequest,
)
from slipway_gateway.inference.store.versions import VersionFilter
from slipway_gateway.inference.versions import ServedEndpoint
from slipway_gateway.inference.view_v0 import deployment_v0, endpoint_v0, version_v0
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List
from slipway_gateway.v0.queries import uuid_or_none
from slipway_kit.body import json_or_form
from slipway_schemas.inference.versions import NameSuggestion

router = APIRouter(tags=["deployments"])

DeploymentCreateBody = Annotated[DeploymentCreate, Depends(json_or_form(DeploymentCreate))]
DeploymentUpdateBody = Annotated[DeploymentUpdate, Depends(json_or_form(DeploymentUpdate))]
VersionBody = Annotated[VersionRequest, Depends(json_or_form(VersionRequest))]
SwitchBody = Annotated[SwitchUpdate, Depends(json_or_form(SwitchUpdate))]
EndpointUpdateBody = Annotated[EndpointUpdate, Depends(json_or_form(EndpointUpdate))]
IdempotencyKey = Annotated[str | None, Header()]


@router.get("/deployments/")
async def list_deployments(
    query: List, user: CurrentUser, context: Context, project: str | None = None, name: str | None = None
) -> Response:
    """Deployments of the projects that the caller may see."""
    page = await context.inference.deployments.page(
        user, query.page, project_id=uuid_or_none("project", project), name=name or None
    )
    return query.answer(page, [_deployment(context, one) for one in page.items])


@router.post("/deployments/", status_code=201, openapi_extra=body_schema(DeploymentCreate))
async def create_deployment(
    user: CurrentUser, context: Context, body: DeploymentCreateBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a deployment. Without a target it is the YAML's, or the installation's default."""
    made = await context.inference.deployments.create(user, body, idempotency_key)
    return JSONResponse(_deployment(context, made), status_code=201)


@router.get("/deployments/{deployment_id}/")
async def get_deployment(deployment_id: UUID, user: CurrentUser, context: Context) -> Response:
    """One deployment with its aliases and newest versions."""
    return JSONResponse(_deployment(context, await context.inference.deployments.get(user, deployment_id)))


@router.put("/deployments/{deployment_id}/", openapi_extra=body_schema(DeploymentUpdate))
@router.patch("/deployments/{deployment_id}/", openapi_extra=body_schema(DeploymentUpdate))
async def update_deployment(
    deployment_id: UUID, user: CurrentUser, context: Context, body: DeploymentUpdateBody
) -> Response:
    """Enable or disable all of a deployment; let endpoints answer without a key, or not."""
    return JSONResponse(_deployment(context, await context.inference.deployments.change(user, deployment_id, body)))


@router.delete("/deployments/{deployment_id}/", status_code=204, response_class=Response)
async def delete_deployment(deployment_id: UUID, user: CurrentUser, context: Context) -> None:
    """Delete a deployment with all of its versions."""
    await context.inference.deployments.delete(user, deployment_id)


@router.get("/deployments/{deployment_id}/suggest_version_name/")
async def suggest_version_name(deployment_id: UUID, user: CurrentUser, context: Context) -> NameSuggestion:
    """A free name for the next version: the day and a number."""
    return NameSuggestion(name=await context.inference.deployments.suggested_version_name(user, deployment_id))


@router.get("/deployment-versions/")
async def list_versions(
    query: List,
    user: CurrentUser,
    context: Context,
    deployment: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> Response:
    """Versions of the deployments that the caller may see, newest first."""
    wanted = VersionFilter(
        project_id=uuid_or_none("project", project),
        deployment_id=uuid_or_none("deployment", deployment),
        name=name or None,
    )
    page = await context.inference.versions.page(user, wanted, query.page)
    datums = await context.inference.versions.datums_of(page.items)
    return query.answer(page, [version_v0(one, datums, context.settings.public_url) for one in page.items])


@router.post("/deployment-versions/", status_code=201, openapi_extra=body_schema(VersionRequest), responses={409: {}})
async def create_version(
    user: CurrentUser, context: Context, body: VersionBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a version out of a commit and chosen files. Its images are built, then its endpoints start."""
    return await _version(context, await context.inference.versions.create(user, body, idempotency_key), status=201)


@router.get("/deployment-versions/{version_id}/")
async def get_version(version_id: UUID, user: CurrentUser, context: Context) -> Response:
    """One version with its endpoints."""
    return await _version(context, await context.inference.versions.get(user, version_id))


@router.put("/deployment-versions/{version_id}/", openapi_extra=body_schema(SwitchUpdate))
@router.patch("/deployment-versions/{version_id}/", openapi_extra=body_schema(SwitchUpdate))
async def update_version(version_id: UUID, user: CurrentUser, context: Context, body: SwitchBody) -> Response:
    """Enable or disable a version; a disabled one keeps its images and runs nothing."""
    return await _version(context, await context.inference.versions.change(user, version_id, body.enabled))


@router.delete("/deployment-versions/{version_id}/", status_code=204, response_class=Response, responses={409: {}})
async def delete_version(version_id: UUID, user: CurrentUser, context: Context) -> None:
    """Delete a version that no alias stands at."""
    await context.inference.versions.delete(user, version_id)


@router.get("/deployment-endpoints/{endpoint_id}/")
async def get_endpoint(endpoint_id: UUID, user: CurrentUser, context: Context) -> Response:
    """One endpoint of a version."""
    return await _endpoint(context, await context.inference.versions.endpoint(user, endpoint_id))


@router.put("/deployment-endpoints/{endpoint_id}/", openapi_extra=body_schema(EndpointUpdate))
@router.patch("/deployment-endpoints/{endpoint_id}/", openapi_extra=body_schema(EndpointUpdate))
async def update_endpoint(endpoint_id: UUID, user: CurrentUser, context: Context, body: EndpointUpdateBody) -> Response:
    """Enable, disable or scale an endpoint."""
    return await _endpoint(context, await context.inference.versions.change_endpoint(user, endpoint_id, body))


def _deployment(context: GatewayContext, detail: DeploymentDetail) -> dict[str, Any]:
    return deployment_v0(detail.deployment, detail.aliases, detail.versions, context.settings.public_url)


async def _version(context: GatewayContext, version: Version, *, status: int = 200) -> Response:
    datums = await context.inference.versions.datums_of([version])
    return JSONResponse(version_v0(version, datums, context.settings.public_url), status_code=status)


async def _endpoint(context: GatewayContext, served: ServedEndpoint) -> Response:
    datums = await context.inference.versions.datums_of([served.version])
    return JSONResponse(endpoint_v0(served.endpoint, served.version, datums))
