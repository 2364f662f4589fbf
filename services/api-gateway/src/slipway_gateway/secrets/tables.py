"""Table of secrets."""

from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db.tables import CreatedAt
from slipway_gateway.database import GatewayBase


class SecretRow(GatewayBase):
    """One version of a secret. Versions are kept, so that a queued run gets the value it was created with."""

    __tablename__ = "secrets"
    __table_args__ = (
        CheckConstraint("scope IN ('project', 'execution', 'organization', 'repository', 'group')", name="scope"),
    )

    scope: Mapped[str] = mapped_column(String(16), primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
