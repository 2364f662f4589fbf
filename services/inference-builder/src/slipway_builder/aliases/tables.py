"""Tables of aliases and of their history."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase
from slipway_db import CreatedAt, UuidKey


class AliasRow(BuilderBase):
    """A movable name of a version, perhaps with a second version that gets a part of the requests."""

    __tablename__ = "aliases"
    __table_args__ = (UniqueConstraint("deployment_id", "name"),)

    id: Mapped[UuidKey]
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"))
    name: Mapped[str]
    version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"), index=True)
    canary_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("versions.id"))
    canary_percent: Mapped[int]
    sticky: Mapped[bool]
    max_error_percent: Mapped[float | None]
    max_latency_ms: Mapped[float | None]
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[datetime]


class AliasMoveRow(BuilderBase):
    """One move: who, when, why, from where to where."""

    __tablename__ = "alias_moves"

    id: Mapped[UuidKey]
    alias_id: Mapped[UUID] = mapped_column(index=True)
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), index=True)
    alias_name: Mapped[str]
    version_id: Mapped[UUID | None]
    previous_version_id: Mapped[UUID | None]
    canary_version_id: Mapped[UUID | None]
    canary_percent: Mapped[int]
    actor_id: Mapped[int | None]
    reason: Mapped[str]
    automatic: Mapped[bool]
    revision: Mapped[int] = mapped_column(BIG)
    at: Mapped[datetime]
