"""`stores/` of the compatible API."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from slipway_gateway.context import Factory
from slipway_gateway.data.domain import BUILT_IN_STORE_ID
from slipway_gateway.data.view_v0 import StoreV0, built_in_store_v0, store_v0
from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List, V0Page
from slipway_gateway.v0.errors import does_not_exist, required
from slipway_kit.body import json_or_form
from slipway_kit.errors import Forbidden, Invalid

router = APIRouter(prefix="/stores", tags=["data"])

AccessMode = Literal["public", "single_project", "teams", "owner_organization"]


class StoreConfiguration(BaseModel):
    """How an S3-compatible store is reached. Credentials are kept encrypted and never shown."""

    model_config = ConfigDict(extra="ignore")

    bucket: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    worker_endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    test_configuration: bool = True


class StoreCreate(BaseModel):
    """A store to connect."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=64)
    type: str
    access_mode: AccessMode = "owner_organization"
    allow_read: bool = True
    allow_write: bool = True
    allow_uri_download: bool = True
    configuration: StoreConfiguration = StoreConfiguration()
    owner: int | None = None
    project: UUID | None = None


class StoreUpdate(BaseModel):
    """Changes to a store. What is not given stays; so do credentials."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = Field(default=None, min_length=1, max_length=64)
    access_mode: AccessMode | None = None
    allow_read: bool | None = None
    allow_write: bool | None = None
    allow_uri_download: bool | None = None
    configuration: StoreConfiguration | None = None


@router.get("/", response_model=V0Page[StoreV0])
async def list_stores(query: List, user: CurrentUser, context: Context, project: UUID | None = None) -> Any:
    """The installation's own store first, then the connected ones."""
    page = await context.data.connected.page(user, project, query.page)
    first = query.page.offset == 0 and query.page.after is None
    shown = [*([built_in_store_v0()] if first else []), *(store_v0(item) for item in page.items)]
    return query.answer(page, shown)


@router.post("/", status_code=201, openapi_extra=body_schema(StoreCreate))
async def create_store(
    user: CurrentUser, context: Context, body: Annotated[StoreCreate, Depends(json_or_form(StoreCreate))]
) -> StoreV0:
    """Connect a store; its configuration is tried out first."""
    if body.type != "s3":
        raise Invalid(
            f"Stores of type {body.type!r:.40} cannot be connected yet. Use s3, or any service with an S3 endpoint.",
            field="type",
            code="invalid_choice",
        )
    if body.access_mode == "single_project" and body.project is None:
        raise required("project")
    async with context.db.read() as session:
        owners = [account.id for account in await Factory(context, session).accounts.owners_for(user)]
    owner = owners[0] if body.owner is None else body.owner
    if owner not in owners:
        raise does_not_exist("owner", "You cannot connect stores for this owner.")
    values = body.model_dump(include={"name", "type", "access_mode", "allow_read", "allow_write", "allow_uri_download"})
    given = body.configuration.model_dump(exclude_none=True)
    return store_v0(await context.data.connected.create(user, owner, body.project, values, given))


@router.get("/{store_id}/")
async def get_store(store_id: UUID, user: CurrentUser, context: Context) -> StoreV0:
    """One store."""
    if store_id == BUILT_IN_STORE_ID:
        return built_in_store_v0()
    return store_v0(await context.data.connected.get(user, store_id))


@router.put("/{store_id}/", openapi_extra=body_schema(StoreUpdate))
@router.patch("/{store_id}/", openapi_extra=body_schema(StoreUpdate))
async def update_store(
    store_id: UUID,
    user: CurrentUser,
    context: Context,
    body: Annotated[StoreUpdate, Depends(json_or_form(StoreUpdate))],
) -> StoreV0:
    """Change a store; a new configuration is tried out first."""
    _refuse_built_in(store_id)
    values = body.model_dump(exclude={"configuration"}, exclude_none=True)
    given = None if body.configuration is None else body.configuration.model_dump(exclude_none=True)
    return store_v0(await context.data.connected.update(user, store_id, values, given))


@router.delete("/{store_id}/", status_code=204, response_class=Response)
async def delete_store(store_id: UUID, user: CurrentUser, context: Context) -> None:
    """Disconnect a store; its bytes stay where they are."""
    _refuse_built_in(store_id)
    await context.data.connected.delete(user, store_id, context.clock.now())


def _refuse_built_in(store_id: UUID) -> None:
    if store_id == BUILT_IN_STORE_ID:
        raise Forbidden("The installation's own store is set up by the operator.")
