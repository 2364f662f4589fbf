"""SQL of deployments and of the names below them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.tables import DeploymentNameRow, DeploymentRow
from slipway_schemas.inference.versions import DeploymentDraft

_LOCK = text("""
SELECT id, project_id, name, path, target_id, enabled, public, deleted_at IS NOT NULL FROM deployments WHERE id = :id
FOR UPDATE
""")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment."""

    id: UUID
    project_id: UUID
    name: str
    path: str
    target_id: UUID
    enabled: bool
    public: bool
    deleted: bool


class DeploymentStore:
    """Reads and writes deployments in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, deployment_id: UUID) -> Deployment | None:
        """Hold the deployment until the transaction ends: its changes happen one after the other.

        Returns it as it is now, a deleted one too.
        """
        row = (await self._session.execute(_LOCK, {"id": deployment_id})).one_or_none()
        return None if row is None else Deployment(*row)

    async def get(self, deployment_id: UUID, *, deleted: bool = False) -> Deployment | None:
        """Return a deployment, a deleted one only if asked for."""
        statement = select(DeploymentRow).where(DeploymentRow.id == deployment_id)
        if not deleted:
            statement = statement.where(DeploymentRow.deleted_at.is_(None))
        row = await self._session.scalar(statement.execution_options(populate_existing=True))
        return None if row is None else _deployment(row)

    async def insert(self, draft: DeploymentDraft, target_id: UUID) -> None:
        """Add a deployment. Raises IntegrityError when its name is taken."""
        await self._session.execute(
            insert(DeploymentRow).values(
                id=draft.id,
                project_id=draft.project_id,
                owner_id=draft.owner_id,
                creator_id=draft.creator_id,
                name=draft.name,
                path=draft.path,
                target_id=target_id,
                enabled=True,
                public=draft.public,
                modified_at=text("now()"),
            )
        )

    async def update(self, deployment_id: UUID, values: Mapping[str, Any]) -> None:
        """Set columns."""
        await self._session.execute(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment_id)
            .values(**values, modified_at=text("now()"))
            .execution_options(synchronize_session=False)
        )

    async def of_project(self, project_id: UUID) -> list[UUID]:
        """Ids of a project's deployments."""
        statement = select(DeploymentRow.id).where(
            DeploymentRow.project_id == project_id, DeploymentRow.deleted_at.is_(None)
        )
        return list((await self._session.scalars(statement)).all())

    async def take_name(self, deployment_id: UUID, name: str, kind: str) -> None:
        """Reserve a name below a deployment. Raises IntegrityError when a version or an alias has it."""
        await self._session.execute(insert(DeploymentNameRow).values(deployment_id=deployment_id, name=name, kind=kind))

    async def free_name(self, deployment_id: UUID, name: str) -> None:
        """Give a name back."""
        await self._session.execute(
            delete(DeploymentNameRow).where(
                DeploymentNameRow.deployment_id == deployment_id, DeploymentNameRow.name == name
            )
        )

    async def kind_of_name(self, deployment_id: UUID, name: str) -> str | None:
        """What has this name below a deployment."""
        kind: str | None = await self._session.scalar(
            select(DeploymentNameRow.kind).where(
                DeploymentNameRow.deployment_id == deployment_id, DeploymentNameRow.name == name
            )
        )
        return kind


def _deployment(row: DeploymentRow) -> Deployment:
    return Deployment(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        path=row.path,
        target_id=row.target_id,
        enabled=row.enabled,
        public=row.public,
        deleted=row.deleted_at is not None,
    )
