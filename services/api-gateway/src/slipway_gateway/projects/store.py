"""SQL of projects."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.database import unique_violation
from slipway_gateway.identity.access import owner_ids
from slipway_gateway.identity.tables import AccountRow
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.domain import ExecutionCounts, Project
from slipway_gateway.projects.tables import ProjectRow, ProjectVariableRow
from slipway_gateway.variables.domain import Variable

SLUG_CONSTRAINT = "uq_projects_owner_id_slug"
NAME_CONSTRAINT = "uq_projects_owner_id_name"
_COLUMNS = ProjectRow.__table__.c


class ProjectStore:
    """Reads and writes projects in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def visible(self, user_id: int, project_id: UUID, *, lock: bool = False) -> Project | None:
        """A project that this user may see, with its variables; `lock` holds its row until the commit."""
        statement = visible_projects(user_id).where(ProjectRow.id == project_id)
        if lock:
            statement = statement.with_for_update(of=ProjectRow)
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            return None
        return _project(row[0], row[1], await self.variables(project_id))

    async def by_names(self, user_id: int, owner: str, name: str) -> Project | None:
        """A project by its owner's and its own slug."""
        statement = visible_projects(user_id).where(AccountRow.slug == owner, ProjectRow.slug == name)
        row = (await self._session.execute(statement)).one_or_none()
        return None if row is None else _project(row[0], row[1], await self.variables(row[0].id))

    async def page(self, user_id: int, request: PageRequest, *, name: str | None = None) -> Page[Project]:
        """Projects that this user may see."""
        statement = visible_projects(user_id)
        if name is not None:
            statement = statement.where(func.lower(ProjectRow.name) == name.lower())
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={"name": func.lower(ProjectRow.name), "ctime": _COLUMNS.created_at, "id": _COLUMNS.id},
            default="name",
            key=_COLUMNS.id,
        )
        return page.of([_project(row[0], row[1], {}) for row in page.items])

    async def variables(self, project_id: UUID) -> dict[str, Variable]:
        """Environment variables by name."""
        statement = (
            select(ProjectVariableRow)
            .where(ProjectVariableRow.project_id == project_id)
            .order_by(ProjectVariableRow.name)
        )
        rows = await self._session.scalars(statement)
        return {row.name: Variable(row.name, row.value, row.secret_version) for row in rows}

    async def taken_slugs(self, owner_id: int, slug: str) -> set[str]:
        """Slugs of the owner that begin with this one."""
        statement = select(ProjectRow.slug).where(
            ProjectRow.owner_id == owner_id, ProjectRow.deleted_at.is_(None), ProjectRow.slug.startswith(slug[:48])
        )
        return set(await self._session.scalars(statement))

    async def add(self, values: Mapping[str, Any]) -> UUID | None:
        """A new project's id, or None when its owner has one of that name."""
        try:
            async with self._session.begin_nested():
                row = ProjectRow(**values)
                self._session.add(row)
        except IntegrityError as error:
            if unique_violation(error) in {NAME_CONSTRAINT, SLUG_CONSTRAINT}:
                return None
            raise
        return row.id

    async def change(self, project_id: UUID, values: Mapping[str, Any]) -> bool:
        """Change columns; False when the new name is taken."""
        statement = update(ProjectRow).where(ProjectRow.id == project_id).values(**values, updated_at=func.now())
        try:
            async with self._session.begin_nested():
                await self._session.execute(statement)
        except IntegrityError as error:
            if unique_violation(error) == NAME_CONSTRAINT:
                return False
            raise
        return True

    async def mark_deleted(self, project_id: UUID) -> None:
        """Hide a project and free its name."""
        statement = update(ProjectRow).where(ProjectRow.id == project_id)
        await self._session.execute(statement.values(deleted_at=func.now(), updated_at=func.now()))

    async def put_variable(self, project_id: UUID, variable: Variable) -> None:
        """Set a variable, replacing the one of that name."""
        values = {"value": variable.value, "secret_version": variable.secret_version}
        statement = insert(ProjectVariableRow).values(project_id=project_id, name=variable.name, **values)
        statement = statement.on_conflict_do_update(
            index_elements=[ProjectVariableRow.project_id, ProjectVariableRow.name],
            set_={**values, "updated_at": func.now()},
        )
        await self._session.execute(statement)

    async def delete_variable(self, project_id: UUID, name: str) -> bool:
        """Remove a variable; False when there is none of that name."""
        statement = (
            delete(ProjectVariableRow)
            .where(ProjectVariableRow.project_id == project_id, ProjectVariableRow.name == name)
            .returning(ProjectVariableRow.name)
        )
        return await self._session.scalar(statement) is not None

    async def enabled_endpoints(self, project_id: UUID) -> int:
        """Endpoints that are enabled at every level, from the builder's published views."""
        statement = text(
            "SELECT count(*) FROM builder_pub.endpoint_v1 e JOIN builder_pub.version_v1 v ON v.id = e.version_id"
            " JOIN builder_pub.deployment_v1 d ON d.id = v.deployment_id WHERE d.project_id = :id"
            " AND e.enabled AND v.enabled AND d.enabled AND v.deleted_at IS NULL AND d.deleted_at IS NULL"
        )
        return int(await self._session.scalar(statement, {"id": project_id}) or 0)

    async def execution_counts(self, project_ids: Sequence[UUID]) -> dict[UUID, ExecutionCounts]:
        """Executions by status, from the scheduler's published view, for many projects in one statement."""
        statement = text(
            "SELECT project_id, status, count(*), max(created_at) FROM scheduler_pub.execution_v1"
            " WHERE project_id = ANY(:ids) AND deleted_at IS NULL GROUP BY project_id, status"
        )
        counts: dict[UUID, ExecutionCounts] = {key: ExecutionCounts({}, None) for key in project_ids}
        for project_id, status, number, newest in await self._session.execute(statement, {"ids": list(project_ids)}):
            before = counts[project_id]
            newest_at = newest if before.newest_at is None else max(before.newest_at, newest)
            counts[project_id] = ExecutionCounts({**before.by_status, status: number}, newest_at)
        return counts


def visible_projects(user_id: int) -> Select[ProjectRow, str]:
    """Projects that are not deleted and belong to the user or the user's organizations, with the owner's slug."""
    return (
        select(ProjectRow, AccountRow.slug)
        .join(AccountRow, AccountRow.id == ProjectRow.owner_id)
        .where(ProjectRow.deleted_at.is_(None), ProjectRow.owner_id.in_(owner_ids(user_id)))
    )


def visible_project_ids(user_id: int) -> Select[UUID]:
    """Ids of the projects that the user may see, for the queries of other features."""
    return select(ProjectRow.id).where(ProjectRow.deleted_at.is_(None), ProjectRow.owner_id.in_(owner_ids(user_id)))


def _project(row: ProjectRow, owner_slug: str, variables: dict[str, Variable]) -> Project:
    return Project(
        id=row.id,
        name=row.name,
        slug=row.slug,
        owner_id=row.owner_id,
        owner_slug=owner_slug,
        description=row.description,
        yaml_path=row.yaml_path,
        default_environment_id=row.default_environment_id,
        default_store_id=row.default_store_id,
        upload_store_id=row.upload_store_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        environment_variables=variables,
    )
