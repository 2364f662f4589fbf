"""Table of consumers' keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, false
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BuilderBase
from slipway_db import CreatedAt, UuidKey


class KeyRow(BuilderBase):
    """A key of one consumer; only its hash is kept."""

    __tablename__ = "keys"

    id: Mapped[UuidKey]
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), index=True)
    consumer: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    endpoints: Mapped[list[str]]
    expires_at: Mapped[datetime | None]
    requests_per_minute: Mapped[int | None]
    creator_id: Mapped[int]
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    hidden: Mapped[bool] = mapped_column(server_default=false())
    """Made for one test call: nobody sees it, and it is deleted after its end."""
