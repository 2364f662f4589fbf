"""`datum-aliases/` of the compatible API."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from slipway_gateway.data.aliases import AliasService
from slipway_gateway.data.view_v0 import AliasV0, DatumV0, alias_v0, datum_v0
from slipway_gateway.identity.dependencies import CurrentUser, ReadServices, Services
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List, V0Page
from slipway_kit.body import json_or_form

router = APIRouter(prefix="/datum-aliases", tags=["data"])


def _reference(value: object) -> object:
    """A datum comes as an id, as `datum://<id>` or as an object with its id."""
    if isinstance(value, dict):
        value = value.get("id")
    return (value.removeprefix("datum://") or None) if isinstance(value, str) else value


DatumReference = Annotated[UUID | None, BeforeValidator(_reference)]


class AliasCreate(BaseModel):
    """A new name of a file."""

    project: UUID
    name: str
    datum: DatumReference = Field(default=None, validation_alias=AliasChoices("datum", "datum_id"))


class AliasUpdate(BaseModel):
    """Where the name points from now on."""

    datum: DatumReference = Field(validation_alias=AliasChoices("datum", "datum_id"))


class ResolvedV0(BaseModel):
    """The file that an alias names."""

    datum: DatumV0


@router.get("/", response_model=V0Page[AliasV0])
async def list_aliases(
    query: List, user: CurrentUser, services: ReadServices, project: UUID | None = None, name: str | None = None
) -> Any:
    """Aliases of the projects that the caller may see, by name."""
    page = await AliasService(services.session).page(user, project, name, query.page)
    return query.answer(page, [alias_v0(item) for item in page.items])


@router.post("/", status_code=201, responses={404: {}}, openapi_extra=body_schema(AliasCreate))
async def create_alias(
    user: CurrentUser, services: Services, body: Annotated[AliasCreate, Depends(json_or_form(AliasCreate))]
) -> AliasV0:
    """A new alias."""
    return alias_v0(await AliasService(services.session).create(user, body.project, body.name, body.datum))


@router.get("/resolve/", responses={404: {}})
async def resolve_alias(user: CurrentUser, services: ReadServices, name: str, project: UUID) -> ResolvedV0:
    """The file that an alias names."""
    return ResolvedV0(datum=datum_v0(await AliasService(services.session).resolve(user, project, name)))


@router.get("/{alias_id}/")
async def get_alias(alias_id: UUID, user: CurrentUser, services: ReadServices) -> AliasV0:
    """One alias."""
    return alias_v0(await AliasService(services.session).get(user, alias_id))


@router.put("/{alias_id}/", openapi_extra=body_schema(AliasUpdate))
@router.patch("/{alias_id}/", openapi_extra=body_schema(AliasUpdate))
async def move_alias(
    alias_id: UUID,
    user: CurrentUser,
    services: Services,
    body: Annotated[AliasUpdate, Depends(json_or_form(AliasUpdate))],
) -> AliasV0:
    """Point an alias at another file."""
    return alias_v0(await AliasService(services.session).point(user, alias_id, body.datum))


@router.delete("/{alias_id}/", status_code=204, response_class=Response)
async def delete_alias(alias_id: UUID, user: CurrentUser, services: Services) -> None:
    """Delete an alias; its file stays."""
    await AliasService(services.session).delete(user, alias_id)
