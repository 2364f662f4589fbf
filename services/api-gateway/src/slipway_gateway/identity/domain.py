"""Values and rules of identity."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from slipway_schemas.names import SLUG_PATTERN

SESSION_LIFETIME = timedelta(days=14)
ATTEMPT_LIMIT = 10
"""Wrong passwords per user name and address before further ones are refused unread."""
ATTEMPT_WINDOW = timedelta(minutes=5)
MIN_PASSWORD_LENGTH = 8
MAX_PASSWORD_LENGTH = 1024
"""Longer ones would only cost time to hash."""
MAX_TOKEN_NAME_LENGTH = 100
MAX_TOKEN_DAYS = 3650


class TokenKind(StrEnum):
    """What a token is for."""

    API = "api"
    SESSION = "session"


@dataclass(frozen=True)
class User:
    """A person who calls."""

    id: int
    username: str
    email: str
    is_admin: bool


@dataclass(frozen=True)
class LoginUser:
    """What a login has to know about a user."""

    user: User
    password_hash: str | None
    external_login: bool
    two_factor: bool
    active: bool


@dataclass(frozen=True)
class Account:
    """A user or an organization as the owner of something."""

    id: int
    slug: str
    kind: str


@dataclass(frozen=True)
class TokenInfo:
    """A token as its owner sees it: never its value."""

    id: UUID
    name: str
    kind: TokenKind
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def usable(self, now: datetime) -> bool:
        """True while the token opens anything."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True)
class IssuedToken:
    """A new token with its value, which is shown once."""

    id: UUID
    value: str
    expires_at: datetime | None


def normal_slug(text: str) -> str | None:
    """`text` as a slug, or None when it cannot be one. Slugs are compared without case."""
    slug = text.strip().lower()
    return slug if re.fullmatch(SLUG_PATTERN, slug) else None
