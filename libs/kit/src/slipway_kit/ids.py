"""Identifiers: UUIDv7 everywhere, so that ids sort by the time they were made."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Return a new UUIDv7; ids made later in one process compare greater."""
    return UUID(int=uuid_utils.compat.uuid7().int)
