"""Tables of stores, uploads, datums and aliases."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db.leases import LeaseColumns
from slipway_db.tables import CreatedAt, UuidKey
from slipway_gateway.database import GatewayBase


class StoreRow(GatewayBase):
    """A connected object store. Without a project, all projects of the owner may use it."""

    __tablename__ = "stores"
    __table_args__ = (
        CheckConstraint(
            "access_mode IN ('public', 'single_project', 'teams', 'owner_organization')", name="access_mode"
        ),
        Index(None, "owner_id"),
    )

    id: Mapped[UuidKey]
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(64))
    type: Mapped[str] = mapped_column(String(16))
    access_mode: Mapped[str] = mapped_column(String(32))
    allow_read: Mapped[bool] = mapped_column(server_default=text("true"))
    allow_write: Mapped[bool] = mapped_column(server_default=text("true"))
    allow_uri_download: Mapped[bool] = mapped_column(server_default=text("true"))
    configuration: Mapped[dict[str, Any]]
    secret_envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class UploadRow(GatewayBase):
    """A file on its way into a store. It becomes a datum of the same id, or is aborted."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("uq_uploads_attempt_id_name_size_version", "attempt_id", "name", "size", "version", unique=True),
        Index(None, "execution_id"),
        Index(None, "created_at"),
    )

    id: Mapped[UuidKey]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    execution_id: Mapped[UUID | None]
    attempt_id: Mapped[UUID | None]
    creator_id: Mapped[int | None]
    store_id: Mapped[UUID | None] = mapped_column(ForeignKey("stores.id"))
    key: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """Of an output: changes with the file's bytes."""
    upload_id: Mapped[str | None] = mapped_column(Text)
    part_size: Mapped[int | None] = mapped_column(BigInteger)
    abort_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class StoreSweepRow(LeaseColumns, GatewayBase):
    """When an object store was swept last; the installation's own has the id `BUILT_IN_STORE_ID`."""

    __tablename__ = "store_sweeps"

    id: Mapped[UuidKey]
    swept_at: Mapped[datetime | None]


class DatumRow(GatewayBase):
    """One immutable file. Purging deletes its bytes and keeps the row. Without a store: the installation's own."""

    __tablename__ = "datums"
    __table_args__ = (
        Index("ix_datums_project_id", "project_id", "created_at", "id"),
        Index("ix_datums_output_execution_id", "output_execution_id", "id"),
        Index("ix_datums_output_attempt_id", "output_attempt_id", "name"),
        Index("ix_datums_tags", "tags", postgresql_using="gin"),
    )

    id: Mapped[UuidKey]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    md5: Mapped[str] = mapped_column(String(32))
    sha1: Mapped[str] = mapped_column(String(40))
    sha256: Mapped[str] = mapped_column(String(64))
    store_id: Mapped[UUID | None] = mapped_column(ForeignKey("stores.id"))
    key: Mapped[str] = mapped_column(Text)
    output_execution_id: Mapped[UUID | None]
    output_attempt_id: Mapped[UUID | None]
    creator_id: Mapped[int | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'::text[]"))
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    file_modified_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    purged_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class AliasRow(GatewayBase):
    """A movable name of a datum within a project. Without a datum it points nowhere yet."""

    __tablename__ = "datum_aliases"
    __table_args__ = (
        Index("uq_datum_aliases_project_id_name", "project_id", text("lower(name)"), unique=True),
        Index(None, "datum_id"),
    )

    id: Mapped[UuidKey]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(128))
    datum_id: Mapped[UUID | None] = mapped_column(ForeignKey("datums.id"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
