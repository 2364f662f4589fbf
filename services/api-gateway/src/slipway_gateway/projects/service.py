"""Use cases of projects."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.outbox import emit
from slipway_gateway.identity.domain import Account, User
from slipway_gateway.identity.service import AccountService
from slipway_gateway.paging import Page, PageRequest
from slipway_gateway.projects.domain import (
    DEFAULT_YAML_PATH,
    ExecutionCounts,
    Project,
    name_problem,
    numbered_slug,
    slug_of,
    yaml_path_problem,
)
from slipway_gateway.projects.store import ProjectStore
from slipway_gateway.secrets.service import SecretService
from slipway_gateway.variables.domain import Variable, check_variable
from slipway_kit.errors import Invalid, NotFound
from slipway_schemas.events import ProjectDeleted


class ProjectService:
    """Projects in one unit of work. Whatever the caller may not see does not exist: `NotFound`."""

    def __init__(self, session: AsyncSession, accounts: AccountService, secrets: SecretService) -> None:
        self._session = session
        self._store = ProjectStore(session)
        self._accounts = accounts
        self._secrets = secrets

    async def get_visible(self, user: User, project_id: UUID) -> Project:
        """A project that the user may see, with its variables. Raises `NotFound`."""
        return _found(await self._store.visible(user.id, project_id))

    async def get_writable(self, user: User, project_id: UUID) -> Project:
        """A project that the user may change; its row is locked until the commit. Raises `NotFound`."""
        return _found(await self._store.visible(user.id, project_id, lock=True))

    async def by_names(self, user: User, owner: str, name: str) -> Project:
        """A project by its address, `owner/slug`. Raises `NotFound`."""
        return _found(await self._store.by_names(user.id, owner.lower(), name.lower()))

    async def page(self, user: User, request: PageRequest, *, name: str | None = None) -> Page[Project]:
        """The projects that the user may see."""
        return await self._store.page(user.id, request, name=name)

    async def enabled_endpoints(self, project: Project) -> int:
        """How many endpoints of the project are enabled."""
        return await self._store.enabled_endpoints(project.id)

    async def execution_counts(self, projects: Sequence[Project]) -> dict[UUID, ExecutionCounts]:
        """Executions by status of each project."""
        return await self._store.execution_counts([project.id for project in projects])

    async def create(
        self,
        user: User,
        *,
        name: str,
        owner: str | int | None = None,
        description: str = "",
        yaml_path: str = DEFAULT_YAML_PATH,
    ) -> Project:
        """A new project, of the user when no owner is named. Raises `Invalid` on `name`, `owner`, `yaml_path`."""
        name = _checked_name(name)
        _check_yaml_path(yaml_path)
        account = await self._owner(user, owner)
        values = {
            "owner_id": account.id,
            "name": name,
            "slug": await self._free_slug(account.id, name),
            "description": description,
            "yaml_path": yaml_path,
        }
        project_id = await self._store.add(values)
        if project_id is None:
            raise _taken(name)
        return await self.get_visible(user, project_id)

    async def update(self, user: User, project_id: UUID, changes: Mapping[str, Any]) -> Project:
        """Change fields of a project. Raises `NotFound`, `Invalid`."""
        project = await self.get_writable(user, project_id)
        values = dict(changes)
        if "name" in values:
            values["name"] = _checked_name(values["name"])
        if "yaml_path" in values:
            _check_yaml_path(values["yaml_path"])
        if values and not await self._store.change(project.id, values):
            raise _taken(values["name"])
        return await self.get_visible(user, project_id)

    async def delete(self, user: User, project_id: UUID) -> None:
        """Hide a project at once; what runs in it is stopped by the scheduler, which gets the event."""
        project = await self.get_writable(user, project_id)
        await self._store.mark_deleted(project.id)
        await emit(self._session, ProjectDeleted(project_id=project.id), actor=user.id)

    async def put_variable(self, user: User, project_id: UUID, name: str, value: str, *, secret: bool) -> Project:
        """Set an environment variable; a secret's value can never be read again. Raises `Invalid`, `NotFound`."""
        check_variable(name, value)
        project = await self.get_writable(user, project_id)
        if secret:
            version = await self._secrets.put("project", project.id, name, value)
            await self._store.put_variable(project.id, Variable(name, None, version))
        else:
            await self._store.put_variable(project.id, Variable(name, value, None))
        return await self.get_visible(user, project_id)

    async def delete_variable(self, user: User, project_id: UUID, name: str) -> Project:
        """Remove an environment variable. Raises `NotFound`."""
        project = await self.get_writable(user, project_id)
        if not await self._store.delete_variable(project.id, name):
            raise NotFound(f"The project has no environment variable {name!r}.")
        return await self.get_visible(user, project_id)

    async def _owner(self, user: User, reference: str | int | None) -> Account:
        allowed = await self._accounts.owners_for(user)
        if reference is None or reference == "":
            return allowed[0]
        wanted = reference if isinstance(reference, int) else reference.strip().lower()
        for account in allowed:
            if wanted in (account.id, account.slug):
                return account
        names = ", ".join(account.slug for account in allowed)
        raise Invalid(
            f"You cannot create projects for {reference!r}. Choose one of: {names}.",
            field="owner",
            code="does_not_exist",
        )

    async def _free_slug(self, owner_id: int, name: str) -> str:
        slug = slug_of(name)
        taken = await self._store.taken_slugs(owner_id, slug)
        candidates = (slug if number == 1 else numbered_slug(slug, number) for number in range(1, len(taken) + 2))
        return next(candidate for candidate in candidates if candidate not in taken)


def _found(project: Project | None) -> Project:
    if project is None:
        raise NotFound("This project does not exist, or you may not see it.")
    return project


def _checked_name(name: str) -> str:
    name = name.strip()
    problem = name_problem(name)
    if problem is not None:
        raise Invalid(problem, field="name")
    return name


def _check_yaml_path(path: str) -> None:
    problem = yaml_path_problem(path)
    if problem is not None:
        raise Invalid(problem, field="yaml_path")


def _taken(name: str) -> Invalid:
    return Invalid(f"The owner already has a project named {name!r}.", field="name", code="unique")
