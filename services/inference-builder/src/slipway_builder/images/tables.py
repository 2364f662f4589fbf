"""Tables of images and of the lines of their builds."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase
from slipway_db import CreatedAt, UuidKey
from slipway_db.leases import LeaseColumns


class ImageRow(LeaseColumns, BuilderBase):
    """The image of one endpoint. The lease belongs to the builder that builds it."""

    __tablename__ = "images"
    __table_args__ = (
        Index("ix_images_unfinished", "created_at", postgresql_where=text("status IN ('waiting', 'building')")),
    )

    id: Mapped[UuidKey]
    version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"), index=True)
    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"))
    base: Mapped[str]
    status: Mapped[str]
    detail: Mapped[str]
    tries: Mapped[int]
    try_after: Mapped[datetime | None]
    cancel_wanted: Mapped[bool]
    builder: Mapped[str]
    reference: Mapped[str]
    digest: Mapped[str]
    base_digest: Mapped[str] = mapped_column(server_default="")
    """Of the base that it was put on; empty where there is none, and for images that are older than this column."""
    command: Mapped[list[str]]
    size: Mapped[int] = mapped_column(BIG)
    seconds: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class ImageLineRow(BuilderBase):
    """A line of a build's log."""

    __tablename__ = "image_lines"

    image_id: Mapped[UUID] = mapped_column(ForeignKey("images.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    line: Mapped[str]
