"""Tables of deployments and of the names below them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BuilderBase
from slipway_db import CreatedAt, UuidKey


class DeploymentRow(BuilderBase):
    """A named group of versions on one target."""

    __tablename__ = "deployments"
    __table_args__ = (
        Index("uq_deployments_path_name", "path", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("ix_deployments_project_id", "project_id"),
    )

    id: Mapped[UuidKey]
    project_id: Mapped[UUID]
    owner_id: Mapped[int]
    creator_id: Mapped[int]
    name: Mapped[str]
    path: Mapped[str]
    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"), index=True)
    enabled: Mapped[bool]
    public: Mapped[bool]
    created_at: Mapped[CreatedAt]
    modified_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class DeploymentNameRow(BuilderBase):
    """A name in use below a deployment: versions and aliases share one segment of the URL (contract 4.1)."""

    __tablename__ = "deployment_names"

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
