"""SQL of versions, their endpoints, images and traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, Select, and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.code.tables import CommitRow
from slipway_gateway.inference.domain.records import CommitFacts, Endpoint, Image, Minute, Version
from slipway_gateway.inference.store.deployments import DEPLOYMENT_COLUMNS, deployment_of, join_deployment
from slipway_gateway.inference.store.views import DEPLOYMENT, ENDPOINT, ENDPOINT_MINUTE, IMAGE, VERSION
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_schemas.inference.statuses import EndpointStatus
from slipway_schemas.inference.versions import EndpointSpec, Scale


@dataclass(frozen=True)
class VersionFilter:
    """Which versions a list shows. None = any."""

    project_id: UUID | None = None
    deployment_id: UUID | None = None
    name: str | None = None


class VersionStore:
    """Reads versions with their endpoints; inference-builder alone writes them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, user_id: int, wanted: VersionFilter, request: PageRequest) -> Page[Version]:
        """Versions of projects that the user may see, in two statements."""
        statement = _visible(user_id)
        if wanted.project_id is not None:
            statement = statement.where(VERSION.c.project_id == wanted.project_id)
        if wanted.deployment_id is not None:
            statement = statement.where(VERSION.c.deployment_id == wanted.deployment_id)
        if wanted.name is not None:
            statement = statement.where(VERSION.c.name == wanted.name.strip().lower())
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={"ctime": VERSION.c.created_at, "name": VERSION.c.name, "id": VERSION.c.id},
            default="-ctime",
            key=VERSION.c.id,
        )
        rows = [row._mapping for row in page.items]
        endpoints = await self._endpoints([row["version_id"] for row in rows])
        return page.of([_version(row, endpoints[row["version_id"]]) for row in rows])

    async def visible(self, user_id: int, version_id: UUID) -> Version | None:
        """A version that this user may see."""
        return await self._one(_visible(user_id).where(VERSION.c.id == version_id))

    async def named(self, user_id: int, deployment_id: UUID, name: str) -> Version | None:
        """A version by its name."""
        statement = _visible(user_id).where(VERSION.c.deployment_id == deployment_id, VERSION.c.name == name)
        return await self._one(statement)

    async def of_endpoint(self, user_id: int, endpoint_id: UUID) -> Version | None:
        """The version that has this endpoint."""
        here = select(ENDPOINT.c.version_id).where(ENDPOINT.c.id == endpoint_id).scalar_subquery()
        return await self._one(_visible(user_id).where(VERSION.c.id == here))

    async def images(self, ids: Sequence[UUID]) -> dict[UUID, Image]:
        """Images by id."""
        statement = select(IMAGE).where(IMAGE.c.id.in_(ids))
        return {row["id"]: Image(**row) for row in (await self._session.execute(statement)).mappings()}

    async def minutes(self, endpoint_ids: Sequence[UUID], since: datetime) -> Sequence[Minute]:
        """Traffic of these endpoints since then, oldest first."""
        statement = (
            select(ENDPOINT_MINUTE)
            .where(ENDPOINT_MINUTE.c.endpoint_id.in_(endpoint_ids), ENDPOINT_MINUTE.c.minute >= since)
            .order_by(ENDPOINT_MINUTE.c.minute)
        )
        return [
            Minute(**{**row, "buckets": tuple(row["buckets"] or ())})
            for row in (await self._session.execute(statement)).mappings()
        ]

    async def _one(self, statement: Select[Any]) -> Version | None:
        row = (await self._session.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        return _version(row, (await self._endpoints([row["version_id"]]))[row["version_id"]])

    async def _endpoints(self, version_ids: Sequence[UUID]) -> dict[UUID, list[Endpoint]]:
        found: dict[UUID, list[Endpoint]] = {one: [] for one in version_ids}
        statement = select(ENDPOINT).where(ENDPOINT.c.version_id.in_(version_ids)).order_by(ENDPOINT.c.name)
        for row in (await self._session.execute(statement)).mappings():
            found[row["version_id"]].append(_endpoint(row))
        return found


def _visible(user_id: int) -> Select[Any]:
    columns = (
        VERSION.c.id.label("version_id"),
        VERSION.c.name.label("version_name"),
        VERSION.c.creator_id,
        VERSION.c.creator_name,
        VERSION.c.commit_identifier,
        VERSION.c.adhoc,
        VERSION.c.enabled,
        VERSION.c.own_variables,
        VERSION.c.created_at,
        VERSION.c.modified_at,
        CommitRow.ref.label("commit_ref"),
        CommitRow.commit_time,
        CommitRow.description.label("commit_description"),
        CommitRow.config.is_not(None).label("commit_has_config"),
    )
    joined = (
        select(*columns, *DEPLOYMENT_COLUMNS)
        .select_from(VERSION)
        .join(DEPLOYMENT, DEPLOYMENT.c.id == VERSION.c.deployment_id)
        .outerjoin(
            CommitRow,
            and_(CommitRow.project_id == VERSION.c.project_id, CommitRow.identifier == VERSION.c.commit_identifier),
        )
        .where(VERSION.c.deleted_at.is_(None))
    )
    return join_deployment(joined, user_id)


def _version(row: RowMapping, endpoints: Sequence[Endpoint]) -> Version:
    return Version(
        id=row["version_id"],
        deployment=deployment_of(row),
        name=row["version_name"],
        creator_id=row["creator_id"],
        creator_name=row["creator_name"],
        commit=CommitFacts(
            identifier=row["commit_identifier"],
            ref=row["commit_ref"] or "",
            adhoc=row["adhoc"],
            commit_time=row["commit_time"] or row["created_at"],
            description=row["commit_description"] or "",
            has_config=bool(row["commit_has_config"]),
        ),
        enabled=row["enabled"],
        own_variables=row["own_variables"] or {},
        created_at=row["created_at"],
        modified_at=row["modified_at"],
        endpoints=tuple(endpoints),
    )


def _endpoint(row: RowMapping) -> Endpoint:
    return Endpoint(
        id=row["id"],
        version_id=row["version_id"],
        deployment_id=row["deployment_id"],
        name=row["name"],
        spec=EndpointSpec.model_validate(row["spec"]),
        enabled=row["enabled"],
        status=EndpointStatus(row["status"]),
        status_detail=row["status_detail"] or "",
        replicas_ready=row["replicas_ready"],
        replicas_wanted=row["replicas_wanted"],
        scale=Scale.model_validate(row["scale"]),
        image_id=row["image_id"],
        problem=row["problem"],
        restarts=row["restarts"],
        last_lines=tuple(row["last_lines"] or ()),
        created_at=row["created_at"],
        modified_at=row["modified_at"],
    )
