"""What the compatible API cannot say: aliases, keys, logs, traffic, test calls."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.inference.deployments import DeploymentDetail
from slipway_gateway.inference.domain.metrics import TrafficReport
from slipway_gateway.inference.domain.records import Version
from slipway_gateway.inference.domain.request import DeploymentUpdate
from slipway_gateway.inference.keys import MAX_CONSUMER_LENGTH
from slipway_gateway.inference.store.versions import VersionFilter
from slipway_gateway.inference.trial import TrialAnswer, TrialRequest
from slipway_gateway.inference.versions import served_by
from slipway_gateway.paging import PageRequest
from slipway_gateway.v0.bodies import body_schema
from slipway_kit.body import json_or_form
from slipway_schemas.inference.versions import (
    AliasMove,
    AliasMoved,
    BuildLogPage,
    EndpointLines,
)

router = APIRouter(tags=["deployments"])

_MOST_LINES = 10_000
_MOST_RECORDS = 100_000
_MOST_MINUTES = 7 * 24 * 60


class Body(BaseModel):
    """Fields that are not known are refused: a mistyped bound would be no bound."""

    model_config = ConfigDict(extra="forbid")


class AliasPut(Body):
    """Where an alias goes. With a canary a share of the requests goes to a second version."""

    version: str = Field(min_length=1, max_length=64, description="Name or id of a version of the deployment.")
    canary_version: str | None = Field(default=None, min_length=1, max_length=64)
    canary_percent: int = Field(default=0, ge=0, le=100)
    sticky: bool = Field(default=True, description="A client that once met the canary meets it again.")
    max_error_percent: float | None = Field(
        default=None, gt=0, le=100, description="The alias goes back by itself above this share of server errors."
    )
    max_latency_ms: float | None = Field(
        default=None, gt=0, le=3_600_000, description="The alias goes back by itself above this mean latency."
    )
    reason: str = Field(default="", max_length=1000, description="For the history.")


class KeyCreate(Body):
    """A key of a consumer."""

    consumer: str = Field(min_length=1, max_length=MAX_CONSUMER_LENGTH)
    endpoints: list[str] = Field(default_factory=list, max_length=100, description="Names; none = all endpoints.")
    expires_at: datetime | None = None
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)


class AliasV1(BaseModel):
    """An alias and where it stands."""

    id: UUID
    name: str
    version_id: UUID
    version: str
    canary_version_id: UUID | None
    canary_version: str | None
    canary_percent: int
    sticky: bool
    max_error_percent: float | None
    max_latency_ms: float | None
    modified_at: datetime
    urls: dict[str, str] = Field(description="Address of each endpoint through the alias.")


class AliasesV1(BaseModel):
    """The aliases of a deployment."""

    items: list[AliasV1]


class AliasMoveV1(BaseModel):
    """One move of an alias; `automatic` ones are made by the platform because a bound was crossed."""

    id: UUID
    alias: str
    version_id: UUID | None = Field(description="null: the alias was removed.")
    version: str | None
    previous_version_id: UUID | None
    previous_version: str | None
    canary_version_id: UUID | None
    canary_version: str | None
    canary_percent: int
    actor_id: int | None
    actor: str | None
    reason: str
    automatic: bool
    at: datetime


class AliasMovesV1(BaseModel):
    """The newest moves, the last one first."""

    items: list[AliasMoveV1]


class KeyV1(BaseModel):
    """A key, without its value."""

    id: UUID
    consumer: str
    endpoints: list[str]
    expires_at: datetime | None
    requests_per_minute: int | None
    created_at: datetime
    creator: str | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeysV1(BaseModel):
    """The keys of a deployment, newest first."""

    items: list[KeyV1]


class KeyIssuedV1(BaseModel):
    """A new key. Its value is shown once: only its hash is kept."""

    id: UUID
    key: str
    header: str = "Authorization: Bearer <key>"


class EndpointRecords(BaseModel):
    """Metadata records of an endpoint."""

    items: list[dict[str, Any]]


class DeploymentV1(BaseModel):
    """A deployment's switches."""

    id: UUID
    name: str
    enabled: bool
    public: bool


class VersionV1(BaseModel):
    """A version's state."""

    id: UUID
    name: str
    enabled: bool
    status_text: str


AliasPutBody = Annotated[AliasPut, Depends(json_or_form(AliasPut))]
KeyCreateBody = Annotated[KeyCreate, Depends(json_or_form(KeyCreate))]
DeploymentUpdateBody = Annotated[DeploymentUpdate, Depends(json_or_form(DeploymentUpdate))]
TrialBody = Annotated[TrialRequest, Depends(json_or_form(TrialRequest))]
Minutes = Annotated[int, Query(ge=1, le=_MOST_MINUTES, description="How far back.")]


@router.patch("/deployments/{deployment_id}", openapi_extra=body_schema(DeploymentUpdate))
async def change_deployment(
    deployment_id: UUID, user: CurrentUser, context: Context, body: DeploymentUpdateBody
) -> DeploymentV1:
    """Open a deployment to requests without a key, or close it; enable or disable it. Who did it is kept."""
    found = (await context.inference.deployments.change(user, deployment_id, body)).deployment
    return DeploymentV1(id=found.id, name=found.name, enabled=found.enabled, public=found.public)


@router.get("/deployments/{deployment_id}/aliases")
async def list_aliases(deployment_id: UUID, user: CurrentUser, context: Context) -> AliasesV1:
    """The aliases of a deployment."""
    detail = await context.inference.deployments.get(user, deployment_id)
    page = await context.inference.versions.page(
        user, VersionFilter(deployment_id=deployment_id), PageRequest(count=False)
    )
    return AliasesV1(items=_aliases(detail, page.items))


@router.put(
    "/deployments/{deployment_id}/aliases/{alias_name}", openapi_extra=body_schema(AliasPut), responses={409: {}}
)
async def move_alias(
    deployment_id: UUID, alias_name: str, user: CurrentUser, context: Context, body: AliasPutBody
) -> AliasMoved:
    """Point an alias at a version, at once; it is made if there is none of that name. 409 `not_ready` says why not."""
    deployment = (await context.inference.deployments.get(user, deployment_id)).deployment
    versions = context.inference.versions
    version = await versions.named(user, deployment.id, body.version, field="version")
    canary = None
    if body.canary_version is not None:
        canary = await versions.named(user, deployment.id, body.canary_version, field="canary_version")
    move = AliasMove(
        version_id=version.id,
        canary_version_id=None if canary is None else canary.id,
        canary_percent=body.canary_percent,
        sticky=body.sticky,
        max_error_percent=body.max_error_percent,
        max_latency_ms=body.max_latency_ms,
        reason=body.reason,
    )
    return await context.inference.deployments.move_alias(user, deployment.id, alias_name, move)


@router.post("/deployments/{deployment_id}/aliases/{alias_name}/rollback", responses={409: {}})
async def roll_back_alias(deployment_id: UUID, alias_name: str, user: CurrentUser, context: Context) -> AliasMoved:
    """Point an alias at the version that it had before."""
    return await context.inference.deployments.roll_back_alias(user, deployment_id, alias_name)


@router.delete("/deployments/{deployment_id}/aliases/{alias_name}", status_code=204)
async def delete_alias(deployment_id: UUID, alias_name: str, user: CurrentUser, context: Context) -> Response:
    """Remove an alias. Its addresses answer no more."""
    await context.inference.deployments.delete_alias(user, deployment_id, alias_name)
    return Response(status_code=204)


@router.get("/deployments/{deployment_id}/alias-moves")
async def list_alias_moves(
    deployment_id: UUID, user: CurrentUser, context: Context, alias: str | None = None
) -> AliasMovesV1:
    """Who moved the aliases of a deployment where and when, newest first."""
    found = await context.inference.deployments.alias_moves(user, deployment_id, alias)
    return AliasMovesV1(
        items=[
            AliasMoveV1(
                id=one.id,
                alias=one.alias_name,
                version_id=one.version_id,
                version=one.version_name,
                previous_version_id=one.previous_version_id,
                previous_version=one.previous_version_name,
                canary_version_id=one.canary_version_id,
                canary_version=one.canary_version_name,
                canary_percent=one.canary_percent,
                actor_id=one.actor_id,
                actor=one.actor,
                reason=one.reason,
                automatic=one.automatic,
                at=one.at,
            )
            for one in found
        ]
    )


@router.get("/deployments/{deployment_id}/keys")
async def list_keys(deployment_id: UUID, user: CurrentUser, context: Context) -> KeysV1:
    """The keys of a deployment, revoked ones too."""
    found = await context.inference.keys.of_deployment(user, deployment_id)
    return KeysV1(items=[KeyV1.model_validate(one, from_attributes=True) for one in found])


@router.post("/deployments/{deployment_id}/keys", status_code=201, openapi_extra=body_schema(KeyCreate))
async def create_key(deployment_id: UUID, user: CurrentUser, context: Context, body: KeyCreateBody) -> KeyIssuedV1:
    """Make a key. Its value is in this answer and nowhere else."""
    issued = await context.inference.keys.issue(
        user,
        deployment_id,
        consumer=body.consumer,
        endpoints=body.endpoints,
        expires_at=body.expires_at,
        requests_per_minute=body.requests_per_minute,
    )
    return KeyIssuedV1(id=issued.id, key=issued.value)


@router.delete("/deployments/{deployment_id}/keys/{key_id}", status_code=204)
async def revoke_key(deployment_id: UUID, key_id: UUID, user: CurrentUser, context: Context) -> Response:
    """End a key; requests with it are refused from now on."""
    await context.inference.keys.revoke(user, deployment_id, key_id)
    return Response(status_code=204)


@router.get("/deployments/{deployment_id}/metrics")
async def deployment_metrics(
    deployment_id: UUID, user: CurrentUser, context: Context, minutes: Minutes = 60
) -> TrafficReport:
    """Requests, errors and latency of a deployment, by version and alias and by minute."""
    await context.inference.deployments.get(user, deployment_id)
    page = await context.inference.versions.page(
        user, VersionFilter(deployment_id=deployment_id), PageRequest(count=False)
    )
    return await context.inference.versions.traffic(served_by(page.items), timedelta(minutes=minutes))


@router.post("/deployment-versions/{version_id}/rebuild", responses={409: {}})
async def rebuild_version(version_id: UUID, user: CurrentUser, context: Context) -> VersionV1:
    """Build the images again that failed or were cancelled."""
    return _version(await context.inference.versions.rebuild(user, version_id))


@router.post("/deployment-versions/{version_id}/cancel", responses={409: {}})
async def cancel_builds(version_id: UUID, user: CurrentUser, context: Context) -> VersionV1:
    """Cancel the builds of a version that have not ended."""
    return _version(await context.inference.versions.cancel(user, version_id))


@router.get("/deployment-endpoints/{endpoint_id}/build-log")
async def get_build_log(
    endpoint_id: UUID,
    user: CurrentUser,
    context: Context,
    after: Annotated[int, Query(ge=0, lt=2**31, description="`next` of the answer before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST_LINES)] = 1000,
) -> BuildLogPage:
    """What the build of the endpoint's image said, in its last try."""
    return await context.inference.versions.build_log(user, endpoint_id, after=after, limit=limit)


@router.get("/deployment-endpoints/{endpoint_id}/log")
async def get_endpoint_log(
    endpoint_id: UUID,
    user: CurrentUser,
    context: Context,
    limit: Annotated[int, Query(ge=1, le=_MOST_LINES)] = 1000,
) -> EndpointLines:
    """The newest lines of all replicas, also of those that are gone.

    `next` is where the live stream goes on: `/api/v1/streams/deployment-endpoints/<id>/log/?from=<next>`.
    """
    return await context.inference.versions.log(user, endpoint_id, limit=limit)


@router.get("/deployment-endpoints/{endpoint_id}/metadata")
async def get_endpoint_metadata(
    endpoint_id: UUID,
    user: CurrentUser,
    context: Context,
    limit: Annotated[int, Query(ge=1, le=_MOST_RECORDS)] = 1000,
) -> EndpointRecords:
    """The newest metadata records that the replicas printed as `{"vh_metadata": {…}}`, oldest first, with `_time`."""
    return EndpointRecords(items=await context.inference.versions.metadata(user, endpoint_id, limit=limit))


@router.get("/deployment-endpoints/{endpoint_id}/metrics")
async def endpoint_metrics(
    endpoint_id: UUID, user: CurrentUser, context: Context, minutes: Minutes = 60
) -> TrafficReport:
    """Requests, errors and latency of an endpoint of one version, by address and by minute."""
    found = await context.inference.versions.endpoint(user, endpoint_id)
    return await context.inference.versions.traffic([found], timedelta(minutes=minutes))


@router.post("/deployment-endpoints/{endpoint_id}/test", openapi_extra=body_schema(TrialRequest))
async def test_endpoint(endpoint_id: UUID, user: CurrentUser, context: Context, body: TrialBody) -> TrialAnswer:
    """Send one request to the endpoint and show what came back; only this endpoint can be reached."""
    found = await context.inference.versions.endpoint(user, endpoint_id)
    if body.alias is not None:
        detail = await context.inference.deployments.get(user, found.version.deployment.id)
        detail.alias(body.alias)
    return await context.inference.trials.call(user, found, body)


def _aliases(detail: DeploymentDetail, versions: Sequence[Version]) -> list[AliasV1]:
    endpoints = {one.id: [endpoint.name for endpoint in one.endpoints] for one in versions}
    return [
        AliasV1(
            id=one.id,
            name=one.name,
            version_id=one.version_id,
            version=one.version_name,
            canary_version_id=one.canary_version_id,
            canary_version=one.canary_version_name,
            canary_percent=one.canary_percent,
            sticky=one.sticky,
            max_error_percent=one.max_error_percent,
            max_latency_ms=one.max_latency_ms,
            modified_at=one.modified_at,
            urls={name: detail.deployment.url_of(one.name, name) for name in endpoints.get(one.version_id, ())},
        )
        for one in detail.aliases
    ]


def _version(version: Version) -> VersionV1:
    return VersionV1(id=version.id, name=version.name, enabled=version.enabled, status_text=version.status_text)
