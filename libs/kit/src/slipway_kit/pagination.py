"""Pages: keyset cursors, and the envelope of the compatible API."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from slipway_kit.errors import Invalid

T = TypeVar("T")


class V0Page(BaseModel, Generic[T]):
    """The list envelope of the compatible API; `count` is null when the caller asked for no count."""

    count: int | None
    next: str | None
    previous: str | None
    results: Sequence[T]


def encode_cursor(*values: Any) -> str:
    """Pack the sort key of the last row of a page into text for a URL.

    Values may be text, numbers, booleans, None, `datetime` and `UUID`.
    """
    packed = json.dumps([_pack(value) for value in values], separators=(",", ":"))
    return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[Any, ...]:
    """Return the values that `encode_cursor` packed, with their types. Raises `Invalid` on field `cursor`."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        values = json.loads(raw)
        if not isinstance(values, list):
            raise TypeError("not a list")
        return tuple(_unpack(value) for value in values)
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise Invalid("This cursor is not one that the server gave out.", field="cursor") from error


def _pack(value: Any) -> Any:
    match value:
        case datetime():
            return {"t": value.isoformat()}
        case UUID():
            return {"u": str(value)}
        case None | str() | int() | float():
            return value
        case _:
            raise TypeError(f"A cursor cannot hold a {type(value).__name__}.")


def _unpack(value: Any) -> Any:
    match value:
        case {"t": str(text)}:
            return datetime.fromisoformat(text)
        case {"u": str(text)}:
            return UUID(text)
        case None | str() | int() | float():
            return value
        case _:
            raise TypeError("unknown value")
