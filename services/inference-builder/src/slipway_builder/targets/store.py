"""SQL of targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_builder.targets.tables import TargetRow
from slipway_db import leases
from slipway_schemas.inference.statuses import TargetKind


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment target that is not deleted."""

    id: UUID
    name: str
    kind: TargetKind
    public_url: str
    is_default: bool
    settings: bytes
    """As the vault has sealed them."""


@dataclass(frozen=True, slots=True)
class LeasedTarget:
    """A target that is this builder's to drive, until the lease ends."""

    target: Target
    token: UUID


class TargetStore:
    """Reads and writes targets in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all(self) -> Sequence[Target]:
        """All targets, by name."""
        statement = select(TargetRow).where(TargetRow.deleted_at.is_(None)).order_by(TargetRow.name)
        return [_target(row) for row in (await self._session.scalars(statement)).all()]

    async def get(self, target_id: UUID) -> Target | None:
        """Return a target."""
        statement = select(TargetRow).where(TargetRow.id == target_id, TargetRow.deleted_at.is_(None))
        row = await self._session.scalar(statement)
        return None if row is None else _target(row)

    async def knows_router_token(self, token_hash: str) -> bool:
        """Whether this token is the one of some target's routers."""
        statement = select(TargetRow.id).where(
            TargetRow.router_token_hash == token_hash, TargetRow.deleted_at.is_(None)
        )
        return await self._session.scalar(statement.limit(1)) is not None

    async def insert(
        self,
        target_id: UUID,
        *,
        name: str,
        kind: TargetKind,
        public_url: str,
        is_default: bool,
        settings: bytes,
        router_token_hash: str,
    ) -> None:
        """Add a target. Raises IntegrityError when its name is taken, or there is a default one already."""
        await self._session.execute(
            insert(TargetRow).values(
                id=target_id,
                name=name,
                kind=kind,
                public_url=public_url,
                is_default=is_default,
                settings=settings,
                router_token_hash=router_token_hash,
                routing_revision=1,
                next_look_at=text("now()"),
                problem="",
            )
        )

    async def update(self, target_id: UUID, **values: Any) -> None:
        """Set columns."""
        await self._session.execute(update(TargetRow).where(TargetRow.id == target_id).values(**values))

    async def drop_default(self) -> None:
        """Leave no target the default one."""
        await self._session.execute(update(TargetRow).where(TargetRow.is_default).values(is_default=False))

    async def deployments(self, target_id: UUID) -> Sequence[str]:
        """Names of the deployments on a target."""
        statement = text("SELECT name FROM deployments WHERE target_id = :id AND deleted_at IS NULL ORDER BY name")
        return (await self._session.scalars(statement, {"id": target_id})).all()

    async def serves(self, target_id: UUID) -> bool:
        """Whether a target has endpoints, or may still have some to let go of."""
        statement = text("""SELECT EXISTS (SELECT FROM endpoints WHERE target_id = :id
            AND (serving OR generation <> applied_generation))""")
        return bool(await self._session.scalar(statement, {"id": target_id}))

    async def apply_again(self, target_id: UUID) -> None:
        """Have everything that a target serves applied again as it is."""
        statement = text("""UPDATE endpoints SET applied_generation = generation - 1, apply_after = NULL
            WHERE target_id = :id AND serving""")
        await self._session.execute(statement, {"id": target_id})

    async def lease_due(self, limit: int, seconds: float) -> list[LeasedTarget]:
        """Take the targets that have to be looked at, or whose endpoints are not as wanted."""
        unsettled = text("""EXISTS (SELECT FROM endpoints e WHERE e.target_id = targets.id
            AND e.generation <> e.applied_generation AND (e.apply_after IS NULL OR e.apply_after < now())
            AND targets.problem = '')""")
        due = (TargetRow.next_look_at < text("now()")) | unsettled.self_group()
        table: Any = TargetRow.__table__
        lease = await leases.fetch(
            self._session,
            table,
            TargetRow.deleted_at.is_(None) & due,
            order_by=[table.c.next_look_at],
            limit=limit,
            seconds=seconds,
        )
        return [
            LeasedTarget(
                Target(
                    id=row["id"],
                    name=row["name"],
                    kind=TargetKind(row["kind"]),
                    public_url=row["public_url"],
                    is_default=row["is_default"],
                    settings=row["settings"],
                ),
                lease.token,
            )
            for row in lease.rows
        ]

    async def renew(self, leased: LeasedTarget, seconds: float) -> bool:
        """Keep the lease; False when another builder has it."""
        kept = await self._session.scalar(
            text("""
            UPDATE targets SET leased_until = now() + make_interval(secs => :seconds)
            WHERE id = :id AND lease_token = :token RETURNING id
            """),
            {"seconds": seconds, "id": leased.target.id, "token": leased.token},
        )
        return kept is not None

    async def give_back(self, leased: LeasedTarget, *, look_in: float, problem: str) -> bool:
        """End the lease and say when to look again; `problem` is why the target did not answer.

        Tells whether that is another one than before, and the lease was still ours.
        """
        before = await self._session.scalar(
            select(TargetRow.problem)
            .where(TargetRow.id == leased.target.id, TargetRow.lease_token == leased.token)
            .with_for_update()
        )
        if before is None:
            return False
        await self._session.execute(
            text("""
            UPDATE targets SET lease_token = NULL, leased_until = NULL,
                next_look_at = now() + make_interval(secs => :look_in), problem = :problem,
                unreachable_since = CASE WHEN :problem <> '' THEN coalesce(unreachable_since, now()) END
            WHERE id = :id
            """),
            {"look_in": look_in, "problem": problem, "id": leased.target.id},
        )
        return bool(before != problem)


def _target(row: TargetRow) -> Target:
    return Target(
        id=row.id,
        name=row.name,
        kind=TargetKind(row.kind),
        public_url=row.public_url,
        is_default=row.is_default,
        settings=row.settings,
    )
