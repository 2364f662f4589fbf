"""SQL of deployments, targets, aliases, keys."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from slipway_gateway.identity.tables import AccountRow
from slipway_gateway.inference.domain.records import Alias, AliasMoveRecord, Deployment, Key, Target, VersionLine
from slipway_gateway.inference.store.views import ALIAS, ALIAS_MOVE, DEPLOYMENT, KEY, TARGET, VERSION
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.store import visible_project_ids
from slipway_gateway.projects.tables import ProjectRow

DEPLOYMENT_COLUMNS = (
    DEPLOYMENT.c.id.label("deployment_id"),
    DEPLOYMENT.c.project_id.label("deployment_project_id"),
    DEPLOYMENT.c.owner_id.label("deployment_owner_id"),
    DEPLOYMENT.c.creator_id.label("deployment_creator_id"),
    DEPLOYMENT.c.name.label("deployment_name"),
    DEPLOYMENT.c.path.label("deployment_path"),
    DEPLOYMENT.c.enabled.label("deployment_enabled"),
    DEPLOYMENT.c.public.label("deployment_public"),
    DEPLOYMENT.c.created_at.label("deployment_created_at"),
    DEPLOYMENT.c.modified_at.label("deployment_modified_at"),
    TARGET.c.id.label("target_id"),
    TARGET.c.name.label("target_name"),
    TARGET.c.kind.label("target_kind"),
    TARGET.c.public_url,
    ProjectRow.name.label("project_name"),
    ProjectRow.slug.label("project_slug"),
    AccountRow.slug.label("owner_slug"),
)
_RECENT_MOVES = 200


class DeploymentStore:
    """Reads deployments and what belongs to them; inference-builder alone writes them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(
        self, user_id: int, request: PageRequest, *, project_id: UUID | None, name: str | None
    ) -> Page[Deployment]:
        """Deployments of projects that the user may see."""
        statement = _visible(user_id)
        if project_id is not None:
            statement = statement.where(DEPLOYMENT.c.project_id == project_id)
        if name is not None:
            statement = statement.where(DEPLOYMENT.c.name == name.strip().lower())
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={"name": DEPLOYMENT.c.name, "ctime": DEPLOYMENT.c.created_at, "id": DEPLOYMENT.c.id},
            default="name",
            key=DEPLOYMENT.c.id,
        )
        return page.of([deployment_of(row._mapping) for row in page.items])

    async def visible(self, user_id: int, deployment_id: UUID) -> Deployment | None:
        """A deployment that this user may see."""
        statement = _visible(user_id).where(DEPLOYMENT.c.id == deployment_id)
        row = (await self._session.execute(statement)).mappings().one_or_none()
        return None if row is None else deployment_of(row)

    async def targets(self) -> Sequence[Target]:
        """All targets, the default one first."""
        statement = select(TARGET).order_by(TARGET.c.is_default.desc(), TARGET.c.name)
        return [Target(**row) for row in (await self._session.execute(statement)).mappings()]

    async def target(self, target_id: UUID) -> Target | None:
        """One target."""
        statement = select(TARGET).where(TARGET.c.id == target_id)
        row = (await self._session.execute(statement)).mappings().one_or_none()
        return None if row is None else Target(**row)

    async def version_lines(self, deployment_ids: Sequence[UUID], *, newest: int) -> dict[UUID, list[VersionLine]]:
        """The newest versions of each deployment, in one statement."""
        age = func.row_number().over(partition_by=VERSION.c.deployment_id, order_by=VERSION.c.created_at.desc())
        numbered = (
            select(
                VERSION.c.id,
                VERSION.c.deployment_id,
                VERSION.c.name,
                VERSION.c.enabled,
                VERSION.c.created_at,
                age.label("age"),
            )
            .where(VERSION.c.deployment_id.in_(deployment_ids), VERSION.c.deleted_at.is_(None))
            .subquery()
        )
        statement = select(numbered).where(numbered.c.age <= newest).order_by(numbered.c.age)
        found: dict[UUID, list[VersionLine]] = {one: [] for one in deployment_ids}
        for row in await self._session.execute(statement):
            line = VersionLine(row.id, row.deployment_id, row.name, row.enabled, row.created_at)
            found[row.deployment_id].append(line)
        return found

    async def aliases(self, deployment_ids: Sequence[UUID]) -> dict[UUID, list[Alias]]:
        """The aliases of each deployment by name, in one statement."""
        stable, canary = VERSION.alias("stable"), VERSION.alias("canary")
        statement = (
            select(ALIAS, stable.c.name.label("version_name"), canary.c.name.label("canary_version_name"))
            .join(stable, stable.c.id == ALIAS.c.version_id)
            .outerjoin(canary, canary.c.id == ALIAS.c.canary_version_id)
            .where(ALIAS.c.deployment_id.in_(deployment_ids))
            .order_by(ALIAS.c.name)
        )
        found: dict[UUID, list[Alias]] = {one: [] for one in deployment_ids}
        for row in (await self._session.execute(statement)).mappings():
            found[row["deployment_id"]].append(Alias(**row))
        return found

    async def alias_moves(self, deployment_id: UUID, alias: str | None) -> Sequence[AliasMoveRecord]:
        """The newest moves of the aliases of a deployment, the last one first."""
        after, before, canary = (VERSION.alias(name) for name in ("after", "before", "canary"))
        actor = aliased(AccountRow)
        statement = (
            select(
                ALIAS_MOVE.c.id,
                ALIAS_MOVE.c.alias_name,
                ALIAS_MOVE.c.version_id,
                after.c.name.label("version_name"),
                ALIAS_MOVE.c.previous_version_id,
                before.c.name.label("previous_version_name"),
                ALIAS_MOVE.c.canary_version_id,
                canary.c.name.label("canary_version_name"),
                ALIAS_MOVE.c.canary_percent,
                ALIAS_MOVE.c.actor_id,
                actor.slug.label("actor"),
                ALIAS_MOVE.c.reason,
                ALIAS_MOVE.c.automatic,
                ALIAS_MOVE.c.at,
            )
            .outerjoin(after, after.c.id == ALIAS_MOVE.c.version_id)
            .outerjoin(before, before.c.id == ALIAS_MOVE.c.previous_version_id)
            .outerjoin(canary, canary.c.id == ALIAS_MOVE.c.canary_version_id)
            .outerjoin(actor, actor.id == ALIAS_MOVE.c.actor_id)
            .where(ALIAS_MOVE.c.deployment_id == deployment_id)
            .order_by(ALIAS_MOVE.c.at.desc(), ALIAS_MOVE.c.id.desc())
            .limit(_RECENT_MOVES)
        )
        if alias is not None:
            statement = statement.where(ALIAS_MOVE.c.alias_name == alias)
        return [AliasMoveRecord(**row) for row in (await self._session.execute(statement)).mappings()]

    async def keys(self, deployment_id: UUID) -> Sequence[Key]:
        """The keys of a deployment, newest first, revoked ones too."""
        statement = (
            select(
                *(one for one in KEY.c if one.name != "creator_id"),
                AccountRow.slug.label("creator"),
            )
            .outerjoin(AccountRow, AccountRow.id == KEY.c.creator_id)
            .where(KEY.c.deployment_id == deployment_id)
            .order_by(KEY.c.created_at.desc(), KEY.c.id.desc())
        )
        return [
            Key(**{**row, "endpoints": tuple(row["endpoints"] or ())})
            for row in (await self._session.execute(statement)).mappings()
        ]


def join_deployment(statement: Select[Any], user_id: int) -> Select[Any]:
    """`statement` with the deployment's target, project and owner joined, limited to what the user may see."""
    return (
        statement.join(TARGET, TARGET.c.id == DEPLOYMENT.c.target_id)
        .join(ProjectRow, ProjectRow.id == DEPLOYMENT.c.project_id)
        .join(AccountRow, AccountRow.id == ProjectRow.owner_id)
        .where(DEPLOYMENT.c.deleted_at.is_(None), DEPLOYMENT.c.project_id.in_(visible_project_ids(user_id)))
    )


def _visible(user_id: int) -> Select[Any]:
    return join_deployment(select(*DEPLOYMENT_COLUMNS).select_from(DEPLOYMENT), user_id)


def deployment_of(row: RowMapping) -> Deployment:
    """A deployment out of a row with `DEPLOYMENT_COLUMNS`."""
    return Deployment(
        id=row["deployment_id"],
        project_id=row["deployment_project_id"],
        project_name=row["project_name"],
        project_slug=row["project_slug"],
        owner_id=row["deployment_owner_id"],
        owner_slug=row["owner_slug"],
        creator_id=row["deployment_creator_id"],
        name=row["deployment_name"],
        path=row["deployment_path"],
        target_id=row["target_id"],
        target_name=row["target_name"],
        target_kind=row["target_kind"],
        public_url=row["public_url"],
        enabled=row["deployment_enabled"],
        public=row["deployment_public"],
        created_at=row["deployment_created_at"],
        modified_at=row["deployment_modified_at"],
    )
