"""Tables of accounts, users, organizations and tokens."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db.tables import CreatedAt, UuidKey
from slipway_gateway.database import GatewayBase


class AccountRow(GatewayBase):
    """Whatever can own a project: a user or an organization. Ids are small integers, as clients expect."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("kind IN ('user', 'organization')", name="kind"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[CreatedAt]


class UserRow(GatewayBase):
    """A person. `password_hash` is null for who can only come with a token or from outside."""

    __tablename__ = "users"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    email: Mapped[str] = mapped_column(Text, server_default="")
    password_hash: Mapped[str | None] = mapped_column(Text)
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    external_login: Mapped[bool] = mapped_column(server_default=text("false"))
    two_factor: Mapped[bool] = mapped_column(server_default=text("false"))
    active: Mapped[bool] = mapped_column(server_default=text("true"))


class OrganizationRow(GatewayBase):
    """A group of users that owns projects together."""

    __tablename__ = "organizations"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)


class MembershipRow(GatewayBase):
    """A user in an organization."""

    __tablename__ = "memberships"
    __table_args__ = (Index(None, "organization_id"),)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.account_id", ondelete="CASCADE"), primary_key=True)
    organization_id: Mapped[int] = mapped_column(
        ForeignKey("organizations.account_id", ondelete="CASCADE"), primary_key=True
    )
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    """May change what belongs to the organization as a whole, such as its variables."""
    created_at: Mapped[CreatedAt]


class TokenRow(GatewayBase):
    """An API token or a browser session, known by its keyed hash only."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("kind IN ('api', 'session')", name="kind"),
        Index(None, "user_id", "created_at"),
        Index(None, "opened_by_id"),
    )

    id: Mapped[UuidKey]
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.account_id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    opened_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"))
    """The API token that opened this session, if one did: it ends with that token."""


class LoginAttemptRow(GatewayBase):
    """Wrong passwords per user name and address within a window of time."""

    __tablename__ = "login_attempts"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    since: Mapped[datetime] = mapped_column(server_default=func.now())
