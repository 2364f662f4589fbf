"""Use cases of versions and their endpoints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import RootModel

from slipway_db import Database
from slipway_gateway.data.domain import Datum
from slipway_gateway.data.store.datums import DatumStore
from slipway_gateway.executions.drafts import Snapshots
from slipway_gateway.idempotency import id_for
from slipway_gateway.identity.domain import User
from slipway_gateway.inference.builder import CREATE_SECONDS, INTERNAL, refused_fields
from slipway_gateway.inference.domain.metrics import Answering, TrafficReport, report
from slipway_gateway.inference.domain.records import Endpoint, Image, Version
from slipway_gateway.inference.domain.request import EndpointUpdate, VersionRequest
from slipway_gateway.inference.drafts import VersionDrafts
from slipway_gateway.inference.store.versions import VersionFilter, VersionStore
from slipway_gateway.paging import Page, PageRequest
from slipway_kit.clock import Clock
from slipway_kit.errors import Invalid, NotFound
from slipway_kit.http import Neighbour
from slipway_schemas.inference.statuses import ImageStatus
from slipway_schemas.inference.versions import (
    BuildLogPage,
    Created,
    EndpointChange,
    EndpointLines,
    Scale,
    VersionChange,
)


@dataclass(frozen=True)
class ServedEndpoint:
    """An endpoint with the version that has it."""

    endpoint: Endpoint
    version: Version


def served_by(versions: Iterable[Version]) -> list[ServedEndpoint]:
    """All endpoints of these versions."""
    return [ServedEndpoint(endpoint, version) for version in versions for endpoint in version.endpoints]


class _Records(RootModel[list[dict[str, Any]]]):
    """Metadata records as the log service gives them."""


class VersionService:
    """Versions. It opens its own units of work and closes them before it calls the builder."""

    def __init__(
        self,
        db: Database,
        builder: Neighbour,
        logs: Neighbour,
        drafts: VersionDrafts,
        snapshots: Snapshots,
        clock: Clock,
    ) -> None:
        self._db = db
        self._builder = builder
        self._logs = logs
        self._drafts = drafts
        self._snapshots = snapshots
        self._clock = clock

    async def page(self, user: User, wanted: VersionFilter, request: PageRequest) -> Page[Version]:
        """Versions that the user may see."""
        async with self._db.read() as session:
            return await VersionStore(session).page(user.id, wanted, request)

    async def get(self, user: User, version_id: UUID) -> Version:
        """One version. Raises `NotFound`."""
        async with self._db.read() as session:
            found = await VersionStore(session).visible(user.id, version_id)
        if found is None:
            raise NotFound("This version does not exist, or you may not see it.")
        return found

    async def named(self, user: User, deployment_id: UUID, reference: str, *, field: str) -> Version:
        """A version of a deployment by id or name. Raises `Invalid` on `field`."""
        reference = reference.strip().lower()
        async with self._db.read() as session:
            store = VersionStore(session)
            found = await store.named(user.id, deployment_id, reference)
            if found is None:
                found = await store.visible(user.id, as_id) if (as_id := _uuid(reference)) else None
        if found is None or found.deployment.id != deployment_id:
            raise Invalid(f"The deployment has no version {reference!r:.80}.", field=field, code="does_not_exist")
        return found

    async def datums_of(self, versions: Sequence[Version]) -> dict[UUID, Datum]:
        """The files in the images of versions that the caller was shown already."""
        ids = {file.datum_id for one in versions for endpoint in one.endpoints for file in endpoint.spec.files}
        async with self._db.read() as session:
            return await DatumStore(session).by_ids(list(ids))

    async def create(self, user: User, request: VersionRequest, key: str | None = None) -> Version:
        """A new version. The same `key` of the same user gives the same version. Raises `Invalid`."""
        draft, commit = await self._drafts.build(user, request, id_for("version", user.id, key))
        with refused_fields():
            made = await self._builder.post(
                f"{INTERNAL}/versions", body=draft, result=Created, actor=user.id, timeout=CREATE_SECONDS
            )
        if draft.code.archive_key is None:
            await self._snapshots.ensure_archive(commit)
        return await self.get(user, made.id)

    async def change(self, user: User, version_id: UUID, enabled: bool | None) -> Version:
        """Enable or disable a version. Raises `NotFound`."""
        found = await self.get(user, version_id)
        if enabled is not None:
            change = VersionChange(enabled=enabled)
            await self._builder.patch(f"{INTERNAL}/versions/{found.id}", body=change, actor=user.id)
        return await self.get(user, version_id)

    async def delete(self, user: User, version_id: UUID) -> None:
        """Delete a version. Raises `NotFound`, `Conflict` while an alias stands at it."""
        found = await self.get(user, version_id)
        await self._builder.delete(f"{INTERNAL}/versions/{found.id}", actor=user.id)

    async def rebuild(self, user: User, version_id: UUID) -> Version:
        """Build the images again that failed or were cancelled. Raises `NotFound`, `Conflict`."""
        found = await self.get(user, version_id)
        await self._builder.post(f"{INTERNAL}/versions/{found.id}/rebuild", actor=user.id)
        return await self.get(user, version_id)

    async def cancel(self, user: User, version_id: UUID) -> Version:
        """Cancel builds that have not ended. Raises `NotFound`, `Conflict`."""
        found = await self.get(user, version_id)
        await self._builder.post(f"{INTERNAL}/versions/{found.id}/cancel", actor=user.id)
        return await self.get(user, version_id)

    async def endpoint(self, user: User, endpoint_id: UUID) -> ServedEndpoint:
        """One endpoint. Raises `NotFound`."""
        async with self._db.read() as session:
            version = await VersionStore(session).of_endpoint(user.id, endpoint_id)
        endpoint = next((one for one in version.endpoints if one.id == endpoint_id), None) if version else None
        if version is None or endpoint is None:
            raise NotFound("This endpoint does not exist, or you may not see it.")
        return ServedEndpoint(endpoint, version)

    async def change_endpoint(self, user: User, endpoint_id: UUID, request: EndpointUpdate) -> ServedEndpoint:
        """Enable, disable or scale an endpoint. Raises `NotFound`, `Invalid`."""
        found = await self.endpoint(user, endpoint_id)
        change = EndpointChange(enabled=request.enabled, scale=_scale(found.endpoint.scale, request))
        if change != EndpointChange():
            await self._builder.patch(f"{INTERNAL}/endpoints/{endpoint_id}", body=change, actor=user.id)
        return await self.endpoint(user, endpoint_id)

    async def images(self, endpoints: Sequence[Endpoint]) -> dict[UUID, Image]:
        """The images of endpoints that the caller was shown already."""
        ids = [one.image_id for one in endpoints if one.image_id is not None]
        async with self._db.read() as session:
            return await VersionStore(session).images(ids)

    async def build_log(self, user: User, endpoint_id: UUID, *, after: int = 0, limit: int = 1000) -> BuildLogPage:
        """What the build of an endpoint's image said. Raises `NotFound`."""
        image_id = (await self.endpoint(user, endpoint_id)).endpoint.image_id
        if image_id is None:
            return BuildLogPage(lines=(), next=0, status=ImageStatus.WAITING)
        path = f"{INTERNAL}/images/{image_id}/log"
        params = {"after": after, "limit": limit}
        return await self._builder.get(path, params=params, result=BuildLogPage, actor=user.id)

    async def log(self, user: User, endpoint_id: UUID, *, limit: int) -> EndpointLines:
        """The newest lines of all replicas, also of those that are gone. Raises `NotFound`."""
        found = await self.endpoint(user, endpoint_id)
        path = f"{INTERNAL}/endpoints/{found.endpoint.id}/log"
        return await self._logs.get(path, params={"limit": limit}, result=EndpointLines)

    async def metadata(self, user: User, endpoint_id: UUID, *, limit: int) -> list[dict[str, Any]]:
        """The newest metadata records of all replicas, oldest first. Raises `NotFound`."""
        found = await self.endpoint(user, endpoint_id)
        path = f"{INTERNAL}/endpoints/{found.endpoint.id}/metadata"
        return (await self._logs.get(path, params={"limit": limit}, result=_Records)).root

    async def traffic(self, served: Sequence[ServedEndpoint], window: timedelta) -> TrafficReport:
        """Requests of endpoints that the caller was shown already."""
        since = self._clock.now() - window
        answering = {one.endpoint.id: Answering(one.version.name, one.endpoint.name) for one in served}
        async with self._db.read() as session:
            minutes = await VersionStore(session).minutes(list(answering), since)
        return report(minutes, since, answering)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _scale(now: Scale, request: EndpointUpdate) -> Scale | None:
    """The wanted scale; None when nothing about it was asked for. A new fixed number ends scaling below it."""
    if request.replicas is None and request.replicas_max is None and request.cpu_percent is None:
        return None
    replicas = now.replicas if request.replicas is None else request.replicas
    most = now.replicas_max if request.replicas_max is None else request.replicas_max
    if request.replicas_max is not None and request.replicas_max < replicas:
        raise Invalid(f"replicas_max is {request.replicas_max}, below replicas, {replicas}.", field="replicas_max")
    return Scale(
        replicas=replicas,
        replicas_max=most if most is not None and most > replicas else None,
        cpu_percent=now.cpu_percent if request.cpu_percent is None else request.cpu_percent,
    )
