"""`environments/` of the compatible API."""

from decimal import Decimal
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from slipway_gateway.environments.domain import Environment
from slipway_gateway.identity.dependencies import CurrentUser, ReadServices
from slipway_gateway.v0.envelope import List, V0Page
from slipway_gateway.v0.urls import api_path

router = APIRouter(prefix="/environments", tags=["environments"])


class EnvironmentV0(BaseModel):
    """An environment. `per_user_queue_quota` of 0 or less means unlimited; clients cannot read null."""

    id: str
    slug: str
    name: str
    description: str
    gpu_spec: str
    has_gpu: bool
    per_hour_price_usd: str
    per_user_queue_quota: int
    enabled: bool
    owner: dict[str, Any] | None
    provider: str
    type: str
    spot: bool
    supports_priority: bool
    is_scalable: bool
    allow_personal_usage: bool
    can_admin: bool
    url: str
    unfinished_job_count: int | None = None


def environment_v0(environment: Environment, *, with_count: bool = True) -> EnvironmentV0:
    """An environment in the compatible form."""
    owner = None
    if environment.owner_id is not None:
        owner = {"id": environment.owner_id, "username": environment.owner_slug}
    return EnvironmentV0(
        id=str(environment.id),
        slug=environment.slug,
        name=environment.name,
        description=environment.description,
        gpu_spec=environment.gpu_spec,
        has_gpu=bool(environment.gpu_spec),
        per_hour_price_usd=str(Decimal(environment.per_hour_price_usd).quantize(Decimal("0.0001"))),
        per_user_queue_quota=environment.per_user_queue_quota,
        enabled=environment.enabled,
        owner=owner,
        provider=environment.provider,
        type="vm",
        spot=False,
        supports_priority=True,
        is_scalable=False,
        allow_personal_usage=True,
        can_admin=False,
        url=api_path("environments", environment.id),
        unfinished_job_count=environment.unfinished_job_count if with_count else None,
    )


@router.get("/", response_model=V0Page[EnvironmentV0])
async def list_environments(query: List, user: CurrentUser, services: ReadServices) -> Any:
    """The environments that the caller may use, by name; `include=unfinished_job_count` adds the queue."""
    page = await services.environments.page(user, query.page)
    with_count = "unfinished_job_count" in query.include
    return query.answer(page, [environment_v0(item, with_count=with_count) for item in page.items])


@router.get("/{reference}/", responses={400: {}})
async def get_environment(reference: str, user: CurrentUser, services: ReadServices) -> EnvironmentV0:
    """One environment by id or slug."""
    return environment_v0(await services.environments.resolve(user, reference))
