"""Tables of repositories, commits and archives."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db import CreatedAt, UuidKey
from slipway_db.leases import LeaseColumns
from slipway_gateway.database import GatewayBase


class RepositoryRow(GatewayBase):
    """The git repository of a project. Its token and private key are secrets of scope `repository`."""

    __tablename__ = "repositories"

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), unique=True)
    url: Mapped[str] = mapped_column(Text)
    ref: Mapped[str] = mapped_column(Text, server_default="")
    username: Mapped[str] = mapped_column(Text, server_default="")
    token_version: Mapped[int | None]
    deploy_key_version: Mapped[int | None]
    deploy_public_key: Mapped[str | None] = mapped_column(Text)
    fetched_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class RefRow(GatewayBase):
    """Where a branch or tag stood at the last fetch."""

    __tablename__ = "repository_refs"
    __table_args__ = (CheckConstraint("kind IN ('branch', 'tag')", name="kind"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    head: Mapped[str] = mapped_column(String(64))


class ArchiveRow(GatewayBase):
    """A code archive in the object store, named by its content, shared by all commits with the same files."""

    __tablename__ = "archives"
    __table_args__ = (CheckConstraint("format IN ('tar.zst', 'tar.gz')", name="format"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the uncompressed tar for a git commit, of the package as it came for an ad-hoc one."""
    key: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(8))
    size: Mapped[int] = mapped_column(BigInteger)
    stored_sha256: Mapped[str] = mapped_column(String(64))
    """Of the object as stored, which workers check."""
    created_at: Mapped[CreatedAt]


class CommitRow(LeaseColumns, GatewayBase):
    """A commit of a project's repository, or an ad-hoc package. Immutable but for what is found out about it."""

    __tablename__ = "commits"

    id: Mapped[UuidKey]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    identifier: Mapped[str] = mapped_column(String(80))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="SET NULL"))
    ref: Mapped[str] = mapped_column(Text, server_default="")
    adhoc: Mapped[bool] = mapped_column(server_default=text("false"))
    description: Mapped[str] = mapped_column(Text, server_default="")
    commit_time: Mapped[datetime]
    created_at: Mapped[CreatedAt]
    yaml_path: Mapped[str] = mapped_column(Text)
    config: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The parsed YAML; null while it has not been read, and where there is an error."""
    config_error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    archive_sha256: Mapped[str | None] = mapped_column(ForeignKey("archives.sha256"))
    archive_wanted_at: Mapped[datetime | None] = mapped_column()
    archive_error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("uq_commits_project_id_identifier", "project_id", "identifier", unique=True),
        Index("ix_commits_project_id_commit_time", "project_id", "commit_time", "id"),
        Index("ix_commits_identifier", "identifier"),
        Index("ix_commits_archive_wanted_at", "archive_wanted_at", postgresql_where=archive_wanted_at.is_not(None)),
    )
