"""`repositories/`, `commits/` and the code routes of projects in the compatible API."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from slipway_gateway.code.domain import Commit, Repository
from slipway_gateway.code.packages import receive_package
from slipway_gateway.code.remotes import parse_remote
from slipway_gateway.code.service import RepositoryLink
from slipway_gateway.context import Factory, GatewayContext
from slipway_gateway.identity.dependencies import Context, CurrentUser, ReadServices, Services
from slipway_gateway.identity.domain import User
from slipway_gateway.paging import MAX_LIMIT, PageRequest
from slipway_gateway.projects.domain import Project
from slipway_gateway.v0.envelope import List, V0Page
from slipway_gateway.v0.fields import Timestamp
from slipway_gateway.v0.urls import api_path, page_url
from slipway_kit.errors import NotFound
from slipway_schemas.storable import Storable

router = APIRouter(tags=["code"])


class RepositoryPut(Storable):
    """Link a repository. Without `token` the one that is there is kept, for the same URL only; "" removes it."""

    url: str
    ref: str = ""
    username: str | None = None
    token: str | None = Field(default=None, repr=False)


class RepositoryV0(BaseModel):
    """A linked repository. Its secrets are never shown; `deploy_public_key` goes to the git host for ssh."""

    id: int
    project: dict[str, str]
    url: str
    ref: str
    username: str
    has_token: bool
    deploy_public_key: str | None
    fetched_at: Timestamp | None


class FetchedV0(BaseModel):
    """A branch or tag that is new or has moved."""

    ref: str
    identifier: str


class FetchV0(BaseModel):
    """What a fetch brought, and what was wrong, in words."""

    commits: list[FetchedV0]
    errors: list[str]


class CommitV0(BaseModel):
    """A commit without its YAML."""

    id: UUID
    identifier: str
    commit_time: Timestamp
    url: str
    ref: str
    ref_names: list[str]
    adhoc: bool
    repository: int | None
    description: str
    yaml_path: str
    has_config: bool
    config_error: str | None
    project_id: UUID
    project: UUID
    ctime: Timestamp
    urls: dict[str, str]


class CommitDetailV0(CommitV0):
    """A commit; `config` is the parsed YAML as a list, with `include=config`."""

    config: list[Any] | None = None


class PackageForm(BaseModel):
    """Parts of the multipart body; for the description of the API only."""

    data: bytes
    description: str = ""
    yaml_path: str = ""
    sha256: str = ""


_PACKAGE_SCHEMA: dict[str, Any] = {
    "requestBody": {"content": {"multipart/form-data": {"schema": PackageForm.model_json_schema()}}, "required": True}
}


def commit_v0(commit: Commit, public_url: str) -> CommitV0:
    """A commit in the compatible form."""
    commit_time: datetime = commit.commit_time
    return CommitV0(
        id=commit.id,
        identifier=commit.identifier,
        commit_time=commit_time,
        url=api_path("commits", commit.identifier),
        ref=commit.ref,
        ref_names=list(commit.ref_names),
        adhoc=commit.adhoc,
        repository=commit.repository_id,
        description=commit.description,
        yaml_path=commit.yaml_path,
        has_config=commit.has_config,
        config_error=None if commit.config_error is None else commit.config_error.text,
        project_id=commit.project_id,
        project=commit.project_id,
        ctime=commit.created_at,
        urls={"display": page_url(public_url, "projects", commit.project_id, "commits", commit.identifier)},
    )


def repository_v0(repository: Repository) -> RepositoryV0:
    """A repository in the compatible form."""
    return RepositoryV0(
        id=repository.id,
        project={"id": str(repository.project_id)},
        url=repository.url,
        ref=repository.ref,
        username=repository.username,
        has_token=repository.token_version is not None,
        deploy_public_key=repository.deploy_public_key,
        fetched_at=repository.fetched_at,
    )


@router.get("/projects/{project_id}/repository/")
async def get_repository(project_id: UUID, user: CurrentUser, services: ReadServices) -> RepositoryV0:
    """The repository that is linked to a project."""
    project = await services.projects.get_visible(user, project_id)
    repository = await services.code.repository(project)
    if repository is None:
        raise NotFound("The project has no repository yet. Link one with PUT and its url.")
    return repository_v0(repository)


@router.put("/projects/{project_id}/repository/")
async def put_repository(project_id: UUID, user: CurrentUser, services: Services, body: RepositoryPut) -> RepositoryV0:
    """Link a repository, or change the link. For ssh the answer holds the public key to give to the host."""
    project = await services.projects.get_writable(user, project_id)
    services.context.snapshots.remotes.check_local(parse_remote(body.url))
    link = RepositoryLink(url=body.url, ref=body.ref, username=body.username, token=body.token)
    return repository_v0(await services.code.link_repository(project, link))


@router.post("/projects/{project_id}/fetch/", status_code=201)
async def fetch_repository(project_id: UUID, user: CurrentUser, context: Context) -> FetchV0:
    """Fetch all branches and tags. Any body is ignored."""
    project = await _project(context, user, project_id)
    result = await context.snapshots.fetch(project)
    commits = [FetchedV0(ref=ref, identifier=identifier) for ref, identifier in result.commits]
    return FetchV0(commits=commits, errors=list(result.errors))


@router.get("/projects/{project_id}/commits/")
async def project_commits(project_id: UUID, user: CurrentUser, services: ReadServices) -> list[CommitV0]:
    """Commits of a project as a bare list, newest first."""
    project = await services.projects.get_visible(user, project_id)
    request = PageRequest(limit=MAX_LIMIT, count=False)
    page = await services.code.commits(user, request, project_id=project.id)
    return [commit_v0(commit, services.context.settings.public_url) for commit in page.items]


@router.post("/projects/{project_id}/import-package/", status_code=201, openapi_extra=_PACKAGE_SCHEMA)
async def import_package(project_id: UUID, request: Request, user: CurrentUser, context: Context) -> CommitDetailV0:
    """Take an ad-hoc code package: a gzip-compressed tar whose members lie at its root."""
    project = await _project(context, user, project_id)
    content_type = request.headers.get("content-type", "")
    async with receive_package(request.stream(), content_type, context.settings.upload_dir) as package:
        commit = await context.packages.take(project, package)
    return _detail(commit, context, with_config=False)


@router.get("/repositories/", response_model=V0Page[RepositoryV0])
async def list_repositories(query: List, user: CurrentUser, services: ReadServices) -> Any:
    """Repositories of all projects that the caller may see."""
    page = await services.code.repositories(user, query.page)
    return query.answer(page, [repository_v0(item) for item in page.items])


@router.get("/commits/", response_model=V0Page[CommitV0], responses={404: {}})
async def list_commits(
    query: List,
    user: CurrentUser,
    services: ReadServices,
    project: Annotated[UUID | None, Query()] = None,
    adhoc: Annotated[bool | None, Query()] = None,
    identifier: Annotated[str | None, Query()] = None,
) -> Any:
    """Commits of one project, or of all that the caller may see; newest first."""
    if project is not None:
        await services.projects.get_visible(user, project)
    page = await services.code.commits(user, query.page, project_id=project, adhoc=adhoc, identifier=identifier)
    return query.answer(page, [commit_v0(item, services.context.settings.public_url) for item in page.items])


@router.get("/commits/{identifier}/")
async def get_commit(
    identifier: str,
    user: CurrentUser,
    context: Context,
    project: Annotated[UUID | None, Query()] = None,
    include: Annotated[str, Query()] = "",
) -> CommitDetailV0:
    """A commit by identifier or branch name; without `project` the newest in all projects of the caller."""
    async with context.db.read() as session:
        services = Factory(context, session)
        if project is not None:
            owner = await services.projects.get_visible(user, project)
            commit = await services.code.resolve_commit(owner, identifier)
        else:
            commit = await services.code.commit_anywhere(user, identifier)
            owner = await services.projects.get_visible(user, commit.project_id)
    with_config = "config" in include
    if with_config:
        commit = await context.snapshots.ensure_config(owner, commit)
        services.code.config_of(commit)  # clients cannot go on without it: the error says what is wrong with the file
    return _detail(commit, context, with_config=with_config)


def _detail(commit: Commit, context: GatewayContext, *, with_config: bool) -> CommitDetailV0:
    base = commit_v0(commit, context.settings.public_url)
    return CommitDetailV0(**dict(base), config=commit.config if with_config else None)


async def _project(context: GatewayContext, user: User, project_id: UUID) -> Project:
    """The project, in a unit of work that is over before bytes are read or git is started."""
    async with context.db.read() as session:
        return await Factory(context, session).projects.get_visible(user, project_id)
