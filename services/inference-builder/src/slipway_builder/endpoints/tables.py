"""Table of endpoints."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BuilderBase
from slipway_db import CreatedAt, UuidKey


class EndpointRow(BuilderBase):
    """One HTTP server of a version: what is wanted, and what its target says of it."""

    __tablename__ = "endpoints"
    __table_args__ = (
        Index("ix_endpoints_unsettled", "target_id", postgresql_where=text("generation <> applied_generation")),
        Index("ix_endpoints_target_id", "target_id"),
    )

    id: Mapped[UuidKey]
    version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"), index=True)
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), index=True)
    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"))
    image_id: Mapped[UUID] = mapped_column(ForeignKey("images.id"), index=True)
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    scale: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    serving: Mapped[bool]
    """Whether replicas are wanted: enabled at every level, not deleted, and the image is ready."""
    generation: Mapped[int]
    applied_generation: Mapped[int]
    apply_after: Mapped[datetime | None]
    """Not to be applied before: the target has just refused it."""
    status: Mapped[str]
    status_detail: Mapped[str]
    observed_generation: Mapped[int]
    observed_detail: Mapped[str]
    problem: Mapped[str | None]
    replicas_ready: Mapped[int]
    replicas_wanted: Mapped[int]
    restarts: Mapped[int]
    last_lines: Mapped[list[str]]
    address_host: Mapped[str | None]
    address_port: Mapped[int | None]
    ready_at: Mapped[datetime | None]
    proven_at: Mapped[datetime | None]
    """When a replica was first ready since the endpoint was last enabled."""
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[datetime]
