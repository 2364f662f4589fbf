"""`owners/<owner>/environment-variables` and `…/environment-variable-groups` of the native API.

An owner is an organization or a user: whatever projects belong to. Secrets are write-only.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from slipway_gateway.identity.dependencies import CurrentUser, ReadServices, Services
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.variables.domain import Variable, VariableGroup
from slipway_kit.body import json_or_form

router = APIRouter(prefix="/owners/{owner}", tags=["environment variables"])


class Body(BaseModel):
    """Fields that are not known are refused: a mistyped `secret` would store a secret in the clear."""

    model_config = ConfigDict(extra="forbid")


class VariableWrite(Body):
    """The value of a variable; of a secret it can never be read again."""

    value: str
    secret: bool = False


class GroupCreate(Body):
    """A new group, with its first variables."""

    name: str
    description: str = Field(default="", max_length=10_000)
    environment_variables: dict[str, VariableWrite] = Field(default_factory=dict)


class GroupUpdate(Body):
    """Changes to a group. What is not given stays as it is."""

    name: str | None = None
    description: str | None = Field(default=None, max_length=10_000)


VariableWriteBody = Annotated[VariableWrite, Depends(json_or_form(VariableWrite))]
GroupCreateBody = Annotated[GroupCreate, Depends(json_or_form(GroupCreate))]
GroupUpdateBody = Annotated[GroupUpdate, Depends(json_or_form(GroupUpdate))]


class VariableV1(BaseModel):
    """An environment variable; the value of a secret is null."""

    value: str | None
    secret: bool


class GroupV1(BaseModel):
    """A group of environment variables."""

    id: UUID
    name: str
    description: str
    updated_at: datetime
    environment_variables: dict[str, VariableV1]


class VariablesV1(BaseModel):
    """Variables that all projects of an owner inherit."""

    environment_variables: dict[str, VariableV1]
    editable: bool
    """Whether the caller may change them, and the groups."""


class GroupsV1(BaseModel):
    """All groups of an owner."""

    items: list[GroupV1]


@router.get("/environment-variables")
async def list_variables(owner: str, user: CurrentUser, services: ReadServices) -> VariablesV1:
    """Variables that all projects of the owner inherit."""
    found = await services.variables.of_owner(user, owner)
    return VariablesV1(environment_variables=_shown(found.variables.values()), editable=found.editable)


@router.put("/environment-variables/{name}", openapi_extra=body_schema(VariableWrite))
async def put_variable(
    owner: str, name: str, user: CurrentUser, services: Services, body: VariableWriteBody
) -> VariableV1:
    """Set a variable of all projects of the owner."""
    made = await services.variables.put(user, owner, None, name, body.value, secret=body.secret)
    return VariableV1(value=made.value, secret=made.secret)


@router.delete("/environment-variables/{name}", status_code=204)
async def delete_variable(owner: str, name: str, user: CurrentUser, services: Services) -> Response:
    """Remove a variable of all projects of the owner."""
    await services.variables.delete(user, owner, None, name)
    return Response(status_code=204)


@router.get("/environment-variable-groups")
async def list_groups(owner: str, user: CurrentUser, services: ReadServices) -> GroupsV1:
    """The groups of the owner."""
    return GroupsV1(items=[_group(one) for one in (await services.variables.of_owner(user, owner)).groups])


@router.post("/environment-variable-groups", status_code=201, openapi_extra=body_schema(GroupCreate))
async def create_group(owner: str, user: CurrentUser, services: Services, body: GroupCreateBody) -> GroupV1:
    """Make a group."""
    made = await services.variables.create_group(user, owner, body.name, body.description)
    for name, one in body.environment_variables.items():
        await services.variables.put(user, owner, str(made.id), name, one.value, secret=one.secret)
    return _group(await services.variables.group(user, owner, str(made.id)))


@router.get("/environment-variable-groups/{group}")
async def get_group(owner: str, group: str, user: CurrentUser, services: ReadServices) -> GroupV1:
    """One group, by name or id."""
    return _group(await services.variables.group(user, owner, group))


@router.patch("/environment-variable-groups/{group}", openapi_extra=body_schema(GroupUpdate))
async def change_group(owner: str, group: str, user: CurrentUser, services: Services, body: GroupUpdateBody) -> GroupV1:
    """Change name or description of a group."""
    changes = body.model_dump(exclude_none=True)
    return _group(await services.variables.change_group(user, owner, group, changes))


@router.delete("/environment-variable-groups/{group}", status_code=204)
async def delete_group(owner: str, group: str, user: CurrentUser, services: Services) -> Response:
    """Remove a group. Runs that were made with it keep what they got."""
    await services.variables.delete_group(user, owner, group)
    return Response(status_code=204)


@router.put(
    "/environment-variable-groups/{group}/environment-variables/{name}", openapi_extra=body_schema(VariableWrite)
)
async def put_group_variable(
    owner: str, group: str, name: str, user: CurrentUser, services: Services, body: VariableWriteBody
) -> VariableV1:
    """Set a variable of a group."""
    made = await services.variables.put(user, owner, group, name, body.value, secret=body.secret)
    return VariableV1(value=made.value, secret=made.secret)


@router.delete("/environment-variable-groups/{group}/environment-variables/{name}", status_code=204)
async def delete_group_variable(owner: str, group: str, name: str, user: CurrentUser, services: Services) -> Response:
    """Remove a variable of a group."""
    await services.variables.delete(user, owner, group, name)
    return Response(status_code=204)


def _shown(variables: Iterable[Variable]) -> dict[str, VariableV1]:
    return {one.name: VariableV1(value=one.value, secret=one.secret) for one in variables}


def _group(group: VariableGroup) -> GroupV1:
    return GroupV1(
        id=group.id,
        name=group.name or "",
        description=group.description,
        updated_at=group.updated_at,
        environment_variables=_shown(group.variables.values()),
    )
