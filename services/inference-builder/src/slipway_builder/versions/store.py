"""SQL of versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.aliases.tables import AliasRow
from slipway_builder.versions.tables import VersionRow
from slipway_schemas.inference.versions import VersionDraft


@dataclass(frozen=True, slots=True)
class Version:
    """A version that is not deleted."""

    id: UUID
    deployment_id: UUID
    name: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class WaitingAlias:
    """An alias that a version is to get when it is ready."""

    deployment_id: UUID
    version_id: UUID
    name: str


class VersionStore:
    """Reads and writes versions in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, version_id: UUID) -> Version | None:
        """Return a version."""
        statement = select(VersionRow).where(VersionRow.id == version_id, VersionRow.deleted_at.is_(None))
        row = await self._session.scalar(statement)
        return None if row is None else Version(row.id, row.deployment_id, row.name, row.enabled)

    async def names(self, deployment_id: UUID) -> Sequence[str]:
        """Every name that a version of the deployment has or had."""
        return (
            await self._session.scalars(select(VersionRow.name).where(VersionRow.deployment_id == deployment_id))
        ).all()

    async def insert(self, draft: VersionDraft, name: str) -> None:
        """Add a version."""
        await self._session.execute(
            insert(VersionRow).values(
                id=draft.id,
                deployment_id=draft.deployment_id,
                project_id=draft.project_id,
                name=name,
                creator_id=draft.creator_id,
                creator_name=draft.creator_name,
                commit_identifier=draft.code.identifier,
                adhoc=draft.code.adhoc,
                code=draft.code.model_dump(mode="json"),
                enabled=draft.enabled,
                environment_variables={
                    name: one.model_dump(mode="json") for name, one in draft.environment_variables.items()
                },
                own_variables=dict(draft.own_variables),
                wanted_aliases=list(draft.aliases),
                details=draft.metadata,
                modified_at=text("now()"),
            )
        )

    async def update(self, version_id: UUID, values: Mapping[str, Any]) -> None:
        """Set columns."""
        await self._session.execute(
            update(VersionRow)
            .where(VersionRow.id == version_id)
            .values(**values, modified_at=text("now()"))
            .execution_options(synchronize_session=False)
        )

    async def aliases_of(self, version_id: UUID) -> Sequence[str]:
        """Names of the aliases that point here, as canaries too."""
        pointing = (AliasRow.version_id == version_id) | (AliasRow.canary_version_id == version_id)
        return (await self._session.scalars(select(AliasRow.name).where(pointing))).all()

    async def waiting_aliases(self, limit: int) -> list[WaitingAlias]:
        """Aliases that versions wait for, of versions all of whose endpoints serve."""
        rows = await self._session.execute(
            text("""
            SELECT v.deployment_id, v.id, unnest(v.wanted_aliases) AS name FROM versions v
            WHERE v.wanted_aliases <> '{}' AND v.deleted_at IS NULL AND NOT EXISTS (
                SELECT FROM endpoints e WHERE e.version_id = v.id AND e.enabled AND e.status <> 'AVAILABLE')
            ORDER BY v.created_at LIMIT :limit
            """),
            {"limit": limit},
        )
        return [WaitingAlias(row.deployment_id, row.id, row.name) for row in rows]

    async def alias_done(self, version_id: UUID, name: str) -> bool:
        """The version has its alias, or cannot have it; False when that was known before."""
        done = await self._session.scalar(
            text("""
            UPDATE versions SET wanted_aliases = array_remove(wanted_aliases, :name)
            WHERE id = :id AND :name = ANY(wanted_aliases) RETURNING id
            """),
            {"name": name, "id": version_id},
        )
        return done is not None
