"""Tables of the variables of owners."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db.tables import UuidKey
from slipway_gateway.database import GatewayBase


class VariableGroupRow(GatewayBase):
    """Variables of an owner under one name; the one group without a name goes to all projects of the owner."""

    __tablename__ = "variable_groups"

    id: Mapped[UuidKey]
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str | None] = mapped_column(String(128))
    description: Mapped[str] = mapped_column(Text, server_default="")
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("uq_variable_groups_owner_id_name", "owner_id", func.lower(name), unique=True),
        Index("uq_variable_groups_owner_id", "owner_id", unique=True, postgresql_where=name.is_(None)),
    )


class GroupVariableRow(GatewayBase):
    """A variable of a group: a plain value, or the version of a secret."""

    __tablename__ = "group_variables"
    __table_args__ = (CheckConstraint("(value IS NULL) <> (secret_version IS NULL)", name="one_value"),)

    group_id: Mapped[UUID] = mapped_column(ForeignKey("variable_groups.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    value: Mapped[str | None] = mapped_column(Text)
    secret_version: Mapped[int | None]
