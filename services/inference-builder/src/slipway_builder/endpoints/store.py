"""SQL of endpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.deployments.tables import DeploymentRow
from slipway_builder.endpoints.domain import Facts, Judgement
from slipway_builder.endpoints.tables import EndpointRow
from slipway_builder.images.tables import ImageRow
from slipway_builder.targets.protocol import Observation
from slipway_builder.versions.tables import VersionRow
from slipway_schemas.inference.statuses import EndpointStatus, ImageStatus
from slipway_schemas.inference.versions import EndpointSpec, Scale

_ENABLED = """d.deleted_at IS NULL AND d.enabled AND v.deleted_at IS NULL AND v.enabled AND e.enabled"""

_SETTLE = text(f"""
UPDATE endpoints SET serving = now_wanted.serving, generation = generation + 1, apply_after = NULL, modified_at = now(),
    ready_at = NULL, proven_at = NULL, replicas_ready = 0, problem = NULL, observed_detail = '', address_host = NULL
FROM (
    SELECT e.id, {_ENABLED} AND i.status = 'ready' AS serving
    FROM endpoints e JOIN versions v ON v.id = e.version_id JOIN deployments d ON d.id = e.deployment_id
    JOIN images i ON i.id = e.image_id WHERE e.deployment_id = :deployment
) now_wanted
WHERE endpoints.id = now_wanted.id AND endpoints.serving <> now_wanted.serving
RETURNING endpoints.id
""")  # noqa: S608 - fixed text

_STATES = text(f"""
SELECT e.id, e.version_id, e.name, e.status, e.status_detail, e.observed_generation >= e.generation AS settled,
    e.replicas_ready, e.replicas_wanted, e.problem, e.observed_detail, {_ENABLED} AS enabled,
    i.status AS image_status, i.detail AS image_detail, e.address_host, e.address_port, e.scale, e.proven_at,
    t.problem AS away
FROM endpoints e JOIN versions v ON v.id = e.version_id JOIN deployments d ON d.id = e.deployment_id
JOIN images i ON i.id = e.image_id JOIN targets t ON t.id = e.target_id WHERE e.deployment_id = :deployment
ORDER BY e.id
""")  # noqa: S608 - fixed text

_TO_APPLY = text("""
SELECT e.id, e.generation, e.serving, e.version_id, e.deployment_id, v.project_id, d.path, d.name AS deployment,
    v.name AS version, i.reference, i.command, e.spec, e.scale, v.environment_variables,
    e.proven_at IS NOT NULL AS proven
FROM endpoints e JOIN versions v ON v.id = e.version_id JOIN deployments d ON d.id = e.deployment_id
JOIN images i ON i.id = e.image_id
WHERE e.target_id = :target AND (e.serving OR e.generation <> e.applied_generation)
""")

_TO_ZERO = "(scale->>'replicas')::int = 0 AND coalesce((scale->>'replicas_max')::int, 0) > 0"
_OBSERVED = text(f"""
UPDATE endpoints SET observed_generation = :observed_generation, replicas_ready = :replicas_ready,
    replicas_wanted = :replicas_wanted, problem = :problem, observed_detail = :observed_detail, restarts = :restarts,
    last_lines = :last_lines, address_host = :address_host, address_port = :address_port,
    ready_at = CASE WHEN :replicas_ready > 0 THEN coalesce(ready_at, now()) END,
    proven_at = CASE WHEN :replicas_ready > 0 THEN coalesce(proven_at, now()) ELSE proven_at END,
    -- From now on it may sleep, which the target has to hear.
    generation = generation + CASE WHEN :replicas_ready > 0 AND proven_at IS NULL AND {_TO_ZERO} THEN 1 ELSE 0 END
WHERE id = :id AND generation = :generation
    AND EXISTS (SELECT FROM targets t WHERE t.id = endpoints.target_id AND t.lease_token = :lease)
RETURNING id
""")  # noqa: S608 - fixed text

_APPLIED = text("""
UPDATE endpoints SET applied_generation = :generation
WHERE id = :id AND applied_generation < :generation
    AND EXISTS (SELECT FROM targets t WHERE t.id = endpoints.target_id AND t.lease_token = :lease)
""")

_REFUSED = text("""
UPDATE endpoints SET problem = 'refused', observed_detail = :detail,
    apply_after = now() + make_interval(secs => :seconds)
WHERE id = :id AND generation = :generation
    AND EXISTS (SELECT FROM targets t WHERE t.id = endpoints.target_id AND t.lease_token = :lease)
RETURNING deployment_id
""")


@dataclass(frozen=True, slots=True)
class EndpointState:
    """An endpoint with all that its status and its routes follow from."""

    id: UUID
    version_id: UUID
    name: str
    status: EndpointStatus
    status_detail: str
    facts: Facts
    address_host: str | None
    address_port: int | None


@dataclass(frozen=True, slots=True)
class WantedEndpoint:
    """An endpoint as its target is to have it; `serving` false = it is to be gone."""

    id: UUID
    generation: int
    serving: bool
    version_id: UUID
    deployment_id: UUID
    project_id: UUID
    path: str
    deployment: str
    version: str
    reference: str
    command: tuple[str, ...]
    spec: EndpointSpec
    scale: Scale
    environment_variables: Mapping[str, Any]
    proven: bool


class EndpointStore:
    """Reads and writes endpoints in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def insert(self, **columns: Any) -> None:
        """Add an endpoint."""
        self._session.add(
            EndpointRow(
                **columns,
                serving=False,
                generation=0,
                applied_generation=0,
                status=EndpointStatus.CREATED,
                status_detail="",
                observed_generation=0,
                observed_detail="",
                replicas_ready=0,
                replicas_wanted=0,
                restarts=0,
                last_lines=[],
            )
        )
        await self._session.flush()

    async def deployment_of(self, endpoint_id: UUID) -> UUID | None:
        """The deployment of an endpoint that still exists."""
        statement = (
            select(EndpointRow.deployment_id)
            .join(VersionRow, VersionRow.id == EndpointRow.version_id)
            .join(DeploymentRow, DeploymentRow.id == EndpointRow.deployment_id)
            .where(EndpointRow.id == endpoint_id, VersionRow.deleted_at.is_(None), DeploymentRow.deleted_at.is_(None))
        )
        deployment: UUID | None = await self._session.scalar(statement)
        return deployment

    async def target_of(self, endpoint_id: UUID) -> UUID | None:
        """The target that serves an endpoint."""
        target: UUID | None = await self._session.scalar(
            select(EndpointRow.target_id).where(EndpointRow.id == endpoint_id)
        )
        return target

    async def change(self, endpoint_id: UUID, values: Mapping[str, Any], *, rollout: bool) -> None:
        """Set columns; with `rollout` the target is to look at it again."""
        more: dict[str, Any] = {"generation": EndpointRow.generation + 1, "apply_after": None} if rollout else {}
        await self._session.execute(
            update(EndpointRow).where(EndpointRow.id == endpoint_id).values(**values, **more, modified_at=text("now()"))
        )

    async def settle(self, deployment_id: UUID) -> int:
        """Bring `serving` in line with what is enabled and built; returns how many endpoints changed."""
        return len((await self._session.execute(_SETTLE, {"deployment": deployment_id})).all())

    async def states(self, deployment_id: UUID) -> list[EndpointState]:
        """All endpoints of a deployment."""
        rows = (await self._session.execute(_STATES, {"deployment": deployment_id})).mappings()
        return [_state(row) for row in rows]

    async def judged(self, endpoint_id: UUID, judgement: Judgement) -> None:
        """Write a status."""
        await self._session.execute(
            update(EndpointRow)
            .where(EndpointRow.id == endpoint_id)
            .values(status=judgement.status, status_detail=judgement.detail, modified_at=text("now()"))
        )

    async def wanted(self, target_id: UUID) -> list[WantedEndpoint]:
        """What a target is to serve, and what it has still to let go of."""
        rows = (await self._session.execute(_TO_APPLY, {"target": target_id})).mappings()
        return [_wanted(row) for row in rows]

    async def unsettled(self, target_id: UUID) -> Mapping[UUID, tuple[int, datetime | None]]:
        """Endpoints whose wanted generation has not been applied: the generation, and when it may be tried."""
        statement = select(EndpointRow.id, EndpointRow.generation, EndpointRow.apply_after).where(
            EndpointRow.target_id == target_id, EndpointRow.generation != EndpointRow.applied_generation
        )
        rows = (await self._session.execute(statement)).all()
        return {row.id: (row.generation, row.apply_after) for row in rows}

    async def deployments_on(self, target_id: UUID) -> list[UUID]:
        """Deployments of which a target serves something, or is to."""
        statement = select(EndpointRow.deployment_id).where(EndpointRow.target_id == target_id, EndpointRow.serving)
        return sorted(set((await self._session.scalars(statement)).all()))

    async def applied(self, lease: UUID, endpoint_id: UUID, generation: int) -> None:
        """The target has taken this generation; nothing is written when the target's lease is another's."""
        await self._session.execute(_APPLIED, {"id": endpoint_id, "generation": generation, "lease": lease})

    async def refused(
        self, lease: UUID, endpoint_id: UUID, generation: int, detail: str, seconds: float
    ) -> UUID | None:
        """The target has refused this generation: say why, and try again later. Returns the deployment."""
        values = {"id": endpoint_id, "generation": generation, "detail": detail, "seconds": seconds, "lease": lease}
        deployment: UUID | None = await self._session.scalar(_REFUSED, values)
        return deployment

    async def news(self, seen: Sequence[Observation]) -> Mapping[UUID, list[Observation]]:
        """Observations that say something new of what is wanted now, by deployment."""
        by_id = {one.endpoint_id: one for one in seen}
        rows = (await self._session.scalars(select(EndpointRow).where(EndpointRow.id.in_(by_id)))).all()
        found: dict[UUID, list[Observation]] = {}
        for row in rows:
            one = by_id[row.id]
            known = {name: getattr(row, name) for name in _observed_columns(one)}
            if row.generation == one.generation and known != _observed_columns(one):
                found.setdefault(row.deployment_id, []).append(one)
        return found

    async def observed(self, lease: UUID, seen: Sequence[Observation]) -> bool:
        """Write what a target says; tells whether something changed. The caller holds the deployment's lock."""
        changed = False
        for one in seen:
            columns = _observed_columns(one)
            values = {**columns, "id": one.endpoint_id, "generation": one.generation, "lease": lease}
            changed |= (await self._session.scalar(_OBSERVED, values)) is not None
        return changed

    async def of_image(self, image_id: UUID) -> EndpointSpec | None:
        """What the endpoint of an image is like."""
        spec = await self._session.scalar(
            select(EndpointRow.spec).join(ImageRow, ImageRow.id == EndpointRow.image_id).where(ImageRow.id == image_id)
        )
        return None if spec is None else EndpointSpec.model_validate(spec)


def _observed_columns(one: Observation) -> dict[str, Any]:
    return {
        "observed_generation": one.generation,
        "replicas_ready": one.ready,
        "replicas_wanted": one.wanted,
        "problem": one.problem,
        "observed_detail": one.detail,
        "restarts": one.restarts,
        "last_lines": list(one.last_lines),
        "address_host": one.address.host if one.address else None,
        "address_port": one.address.port if one.address else None,
    }


def _state(row: RowMapping) -> EndpointState:
    return EndpointState(
        id=row["id"],
        version_id=row["version_id"],
        name=row["name"],
        status=EndpointStatus(row["status"]),
        status_detail=row["status_detail"],
        facts=Facts(
            enabled=row["enabled"],
            image=ImageStatus(row["image_status"]),
            image_detail=row["image_detail"],
            settled=row["settled"],
            wanted=row["replicas_wanted"],
            ready=row["replicas_ready"],
            problem=row["problem"],
            detail=row["observed_detail"],
            may_sleep=row["proven_at"] is not None and Scale.model_validate(row["scale"]).to_zero,
            away=row["away"],
        ),
        address_host=row["address_host"],
        address_port=row["address_port"],
    )


def _wanted(row: RowMapping) -> WantedEndpoint:
    return WantedEndpoint(
        id=row["id"],
        generation=row["generation"],
        serving=row["serving"],
        version_id=row["version_id"],
        deployment_id=row["deployment_id"],
        project_id=row["project_id"],
        path=row["path"],
        deployment=row["deployment"],
        version=row["version"],
        reference=row["reference"],
        command=tuple(row["command"]),
        spec=EndpointSpec.model_validate(row["spec"]),
        scale=Scale.model_validate(row["scale"]),
        environment_variables=row["environment_variables"],
        proven=row["proven"],
    )
