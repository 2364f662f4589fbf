"""Ids that a client's `Idempotency-Key` stands for: the same request sent twice makes one thing."""

import hashlib
from uuid import UUID

from slipway_kit.errors import Invalid
from slipway_kit.ids import new_id

_MAX_KEY_LENGTH = 255


def id_for(kind: str, user_id: int, key: str | None) -> UUID:
    """The id that every request of this user with this key gets; without a key a new one. Raises `Invalid`."""
    if not key:
        return new_id()
    if len(key) > _MAX_KEY_LENGTH:
        raise Invalid(f"An idempotency key has at most {_MAX_KEY_LENGTH} characters.", field="Idempotency-Key")
    digest = hashlib.sha256(f"slipway-{kind}\0{user_id}\0{key}".encode()).digest()
    return UUID(bytes=digest[:16], version=5)
