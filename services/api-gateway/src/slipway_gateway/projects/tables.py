"""Tables of projects and their environment variables."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db.tables import CreatedAt, UuidKey
from slipway_gateway.database import GatewayBase


class ProjectRow(GatewayBase):
    """A project. A deleted one keeps its row and frees its name."""

    __tablename__ = "projects"

    id: Mapped[UuidKey]
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(128))
    slug: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text, server_default="")
    yaml_path: Mapped[str] = mapped_column(Text, server_default="valohai.yaml")
    default_environment_id: Mapped[UUID | None]
    default_store_id: Mapped[UUID | None]
    upload_store_id: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None] = mapped_column()

    __table_args__ = (
        Index(
            "uq_projects_owner_id_name",
            "owner_id",
            func.lower(name),
            unique=True,
            postgresql_where=deleted_at.is_(None),
        ),
        Index("uq_projects_owner_id_slug", "owner_id", "slug", unique=True, postgresql_where=deleted_at.is_(None)),
    )


class ProjectVariableRow(GatewayBase):
    """An environment variable of all runs of a project: a plain value, or the version of a secret."""

    __tablename__ = "project_variables"
    __table_args__ = (CheckConstraint("(value IS NULL) <> (secret_version IS NULL)", name="one_value"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    value: Mapped[str | None] = mapped_column(Text)
    secret_version: Mapped[int | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
