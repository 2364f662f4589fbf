"""Query words of the compatible API as clients really send them (contract 1.1)."""

from typing import TypeVar
from uuid import UUID

from slipway_kit.errors import Invalid

D = TypeVar("D", bool, None)

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def flag(name: str, value: str | None, *, default: D) -> bool | D:
    """`true`, `True`, `false`, … as a boolean; an empty value is the default. Raises `Invalid`."""
    if value is None or not value.strip():
        return default
    found = _WORDS.get(value.strip().lower())
    if found is None:
        raise Invalid(f"{name} is true or false, not {value!r:.40}.", field=name)
    return found


def uuid_or_none(name: str, value: str | None) -> UUID | None:
    """An id, where an empty value means none. Raises `Invalid`."""
    if value is None or not value.strip():
        return None
    try:
        return UUID(value.strip())
    except ValueError:
        raise Invalid(f"{value!r:.60} is not an id.", field=name) from None
