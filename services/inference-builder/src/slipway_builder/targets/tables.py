"""Table of deployment targets."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase
from slipway_db import CreatedAt, UuidKey
from slipway_db.leases import LeaseColumns


class TargetRow(LeaseColumns, BuilderBase):
    """A cluster or a host that serves endpoints. The lease belongs to the builder that drives it now."""

    __tablename__ = "targets"
    __table_args__ = (
        Index("uq_targets_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("uq_targets_is_default", "is_default", unique=True, postgresql_where=text("is_default")),
    )

    id: Mapped[UuidKey]
    name: Mapped[str]
    kind: Mapped[str]
    public_url: Mapped[str]
    is_default: Mapped[bool]
    settings: Mapped[bytes]
    """Encrypted as a whole, because clusters and registries have credentials in them."""
    routing_revision: Mapped[int] = mapped_column(BIG)
    """Revision of the routing table; its row lock puts the changes of a target into one order."""
    router_token_hash: Mapped[str]
    """SHA-256 of the token with which the target's routers ask for its table."""
    next_look_at: Mapped[datetime]
    """When its endpoints are looked at again."""
    unreachable_since: Mapped[datetime | None]
    problem: Mapped[str]
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]
