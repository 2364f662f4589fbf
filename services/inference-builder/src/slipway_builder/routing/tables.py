"""Tables of the routing table and of its readers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase


class RouteRow(BuilderBase):
    """A route as routers get it, with the revision of its last change; a removed one stays until all have seen it."""

    __tablename__ = "routes"
    __table_args__ = (Index("ix_routes_target_id_revision", "target_id", "revision"),)

    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"), primary_key=True)
    prefix: Mapped[str] = mapped_column(primary_key=True)
    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id"), index=True)
    document: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(BIG)
    removed: Mapped[bool]


class RouteKeyRow(BuilderBase):
    """A key as routers get it."""

    __tablename__ = "route_keys"
    __table_args__ = (Index("ix_route_keys_target_id_revision", "target_id", "revision"),)

    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"))
    document: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(BIG)
    removed: Mapped[bool]


class RouterRow(BuilderBase):
    """A router that follows a target's table, and how far it is."""

    __tablename__ = "routers"

    target_id: Mapped[UUID] = mapped_column(ForeignKey("targets.id"), primary_key=True)
    router_id: Mapped[str] = mapped_column(primary_key=True)
    applied_revision: Mapped[int] = mapped_column(BIG)
    seen_at: Mapped[datetime]
