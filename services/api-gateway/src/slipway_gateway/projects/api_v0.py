"""`projects/` of the compatible API."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from slipway_gateway.context import Factory
from slipway_gateway.identity.dependencies import CurrentUser, ReadServices, Services
from slipway_gateway.identity.domain import User
from slipway_gateway.projects.domain import DEFAULT_YAML_PATH, ExecutionCounts, Project
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List, V0Page
from slipway_gateway.v0.errors import does_not_exist
from slipway_gateway.v0.fields import Timestamp
from slipway_gateway.v0.urls import api_path, page_url
from slipway_kit.body import json_or_form
from slipway_kit.errors import NotFound

router = APIRouter(prefix="/projects", tags=["projects"])

_WAITING = ("created", "queued")
_RUNNING = ("started", "stopping")


def _owner_reference(value: object) -> object:
    """Owners come as a name, as an id, in a form as an id in digits, or as `{"slug": …}`."""
    if isinstance(value, dict):
        return value.get("slug") or value.get("username") or value.get("id")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Owner = Annotated[str | int | None, BeforeValidator(_owner_reference)]


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


class ProjectCreate(BaseModel):
    """A new project. Without `owner` it is the caller's."""

    name: str
    description: str = ""
    owner: Owner = None
    yaml_path: str = DEFAULT_YAML_PATH


class ProjectUpdate(BaseModel):
    """Changes to a project. What is not given stays as it is."""

    name: str | None = None
    description: str | None = None
    yaml_path: str | None = None
    default_environment: Annotated[str | None, BeforeValidator(_blank_is_none)] = None
    default_store: Annotated[UUID | None, BeforeValidator(_blank_is_none)] = None
    upload_store: Annotated[UUID | None, BeforeValidator(_blank_is_none)] = Field(
        default=None, validation_alias=AliasChoices("upload_store", "upload_store_id")
    )


class VariableCreate(BaseModel):
    """An environment variable. A secret is write-only."""

    name: str
    value: str
    secret: bool = False


class VariableDelete(BaseModel):
    """Which environment variable to remove."""

    name: str


class OwnerV0(BaseModel):
    """An account as an owner."""

    id: int
    username: str


class VariableV0(BaseModel):
    """An environment variable; the value of a secret is null."""

    value: str | None
    secret: bool


class ProjectListV0(BaseModel):
    """A project in lists: clients keep the whole object in a file, so it is small."""

    id: UUID
    name: str
    slug: str
    description: str
    owner: OwnerV0
    ctime: Timestamp
    mtime: Timestamp
    yaml_path: str
    read_only: Literal[False] = False
    url: str
    urls: dict[str, str]


class ProjectV0(ProjectListV0):
    """A project with all that is known of it."""

    environment_variables: dict[str, VariableV0]
    execution_summary: dict[str, int]
    execution_count: int
    running_execution_count: int
    queued_execution_count: int
    last_execution_ctime: Timestamp | None
    enabled_endpoint_count: int
    default_environment: str | None
    default_store: UUID | None
    upload_store_id: UUID | None
    repository: dict[str, str] | None
    tags: tuple[()] = ()


def project_list_v0(project: Project, public_url: str) -> ProjectListV0:
    """A project in the compatible form of lists."""
    display = page_url(public_url, "p", project.owner_slug, project.slug)
    return ProjectListV0(
        id=project.id,
        name=project.name,
        slug=project.slug,
        description=project.description,
        owner=OwnerV0(id=project.owner_id, username=project.owner_slug),
        ctime=project.created_at,
        mtime=project.updated_at,
        yaml_path=project.yaml_path,
        url=api_path("projects", project.id),
        urls={"display": display, "display_repository": f"{display}repository/"},
    )


async def project_v0(services: Factory, project: Project) -> ProjectV0:
    """A project in the compatible form of details."""
    counts: ExecutionCounts = (await services.projects.execution_counts([project]))[project.id]
    repository = await services.code.repository(project)
    by_status = counts.by_status
    newest: datetime | None = counts.newest_at
    return ProjectV0(
        **dict(project_list_v0(project, services.context.settings.public_url)),
        environment_variables={
            name: VariableV0(value=variable.value, secret=variable.secret)
            for name, variable in project.environment_variables.items()
        },
        execution_summary={
            "count": counts.total,
            **{f"{status}_count": number for status, number in sorted(by_status.items())},
        },
        execution_count=counts.total,
        running_execution_count=sum(by_status.get(status, 0) for status in _RUNNING),
        queued_execution_count=sum(by_status.get(status, 0) for status in _WAITING),
        last_execution_ctime=newest,
        enabled_endpoint_count=await services.projects.enabled_endpoints(project),
        default_environment=None if project.default_environment_id is None else str(project.default_environment_id),
        default_store=project.default_store_id,
        upload_store_id=project.upload_store_id,
        repository=None if repository is None else {"url": repository.url, "ref": repository.ref},
    )


@router.get("/", response_model=V0Page[ProjectListV0])
async def list_projects(
    query: List, user: CurrentUser, services: ReadServices, name: Annotated[str | None, Query()] = None
) -> Any:
    """The projects that the caller may see."""
    page = await services.projects.page(user, query.page, name=name)
    return query.answer(page, [project_list_v0(item, services.context.settings.public_url) for item in page.items])


@router.get("/ownership_options/")
async def ownership_options(user: CurrentUser, services: ReadServices) -> list[str]:
    """Names under which the caller may create projects."""
    return [account.slug for account in await services.accounts.owners_for(user)]


@router.post("/", status_code=201, openapi_extra=body_schema(ProjectCreate))
async def create_project(
    user: CurrentUser, services: Services, body: Annotated[ProjectCreate, Depends(json_or_form(ProjectCreate))]
) -> ProjectV0:
    """Make a project."""
    project = await services.projects.create(
        user, name=body.name, owner=body.owner, description=body.description, yaml_path=body.yaml_path
    )
    return await project_v0(services, project)


@router.get("/{project_id}/")
async def get_project(project_id: UUID, user: CurrentUser, services: ReadServices) -> ProjectV0:
    """One project."""
    return await project_v0(services, await services.projects.get_visible(user, project_id))


@router.put("/{project_id}/", openapi_extra=body_schema(ProjectUpdate))
@router.patch("/{project_id}/", openapi_extra=body_schema(ProjectUpdate))
async def update_project(
    project_id: UUID,
    user: CurrentUser,
    services: Services,
    body: Annotated[ProjectUpdate, Depends(json_or_form(ProjectUpdate))],
) -> ProjectV0:
    """Change a project; what is not given stays as it is."""
    changes = await _changes(user, services, body)
    return await project_v0(services, await services.projects.update(user, project_id, changes))


@router.delete("/{project_id}/", status_code=204)
async def delete_project(project_id: UUID, user: CurrentUser, services: Services) -> Response:
    """Delete a project; its running executions are stopped."""
    await services.projects.delete(user, project_id)
    return Response(status_code=204)


@router.post("/{project_id}/environment_variable/", openapi_extra=body_schema(VariableCreate))
async def put_variable(
    project_id: UUID,
    user: CurrentUser,
    services: Services,
    body: Annotated[VariableCreate, Depends(json_or_form(VariableCreate))],
) -> ProjectV0:
    """Set an environment variable of all runs of the project."""
    project = await services.projects.put_variable(user, project_id, body.name, body.value, secret=body.secret)
    return await project_v0(services, project)


@router.delete("/{project_id}/environment_variable/", openapi_extra=body_schema(VariableDelete))
async def delete_variable(
    project_id: UUID,
    user: CurrentUser,
    services: Services,
    body: Annotated[VariableDelete, Depends(json_or_form(VariableDelete))],
) -> ProjectV0:
    """Remove an environment variable."""
    return await project_v0(services, await services.projects.delete_variable(user, project_id, body.name))


async def _changes(user: User, services: Factory, body: ProjectUpdate) -> dict[str, Any]:
    given = body.model_fields_set
    changes: dict[str, Any] = {
        name: value
        for name in ("name", "description", "yaml_path")
        if name in given and (value := getattr(body, name)) is not None
    }
    if "default_environment" in given:
        changes["default_environment_id"] = await _environment_id(user, services, body.default_environment)
    if "default_store" in given:
        changes["default_store_id"] = await _store_id(user, services, "default_store", body.default_store)
    if "upload_store" in given:
        changes["upload_store_id"] = await _store_id(user, services, "upload_store", body.upload_store)
    return changes


async def _store_id(user: User, services: Factory, field: str, store_id: UUID | None) -> UUID | None:
    if store_id is None:
        return None
    try:
        return await services.usable_store(user, store_id)
    except NotFound as error:
        raise does_not_exist(field, error.message) from error


async def _environment_id(user: User, services: Factory, reference: str | None) -> UUID | None:
    if reference is None:
        return None
    try:
        return (await services.environments.resolve(user, reference)).id
    except NotFound as error:
        raise does_not_exist("default_environment", error.message) from error
