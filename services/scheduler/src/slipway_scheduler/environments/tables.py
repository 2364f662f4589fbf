"""Tables of environments and their group tokens."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db import CreatedAt, UuidKey
from slipway_scheduler.database import SchedulerBase


class EnvironmentRow(SchedulerBase):
    """A worker group as users see it."""

    __tablename__ = "environments"
    __table_args__ = (Index("uq_environments_slug", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),)

    id: Mapped[UuidKey]
    slug: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    provider: Mapped[str]
    owner_id: Mapped[int | None]
    enabled: Mapped[bool]
    gpu_spec: Mapped[str]
    per_hour_price_usd: Mapped[Decimal] = mapped_column(Numeric(12, 4))
    per_user_queue_quota: Mapped[int]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]


class GroupTokenRow(SchedulerBase):
    """A token with which machines join an environment; only its keyed hash is kept."""

    __tablename__ = "group_tokens"

    id: Mapped[UuidKey]
    environment_id: Mapped[UUID] = mapped_column(ForeignKey("environments.id"), index=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
