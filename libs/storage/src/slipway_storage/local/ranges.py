"""The Range header (RFC 9110, section 14) for one range of bytes."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")


class UnsatisfiableRangeError(Exception):
    """The range begins past the end of the object."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From `start` up to, not including, `end`."""

    start: int
    end: int


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The range that is asked for, or None for the whole object: no header, or one that we do not serve.

    Several ranges and other units are answered with the whole object, as the RFC allows.
    Raises `UnsatisfiableRangeError`.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise UnsatisfiableRangeError
        return ByteRange(max(0, size - int(suffix)), size)
    start = int(first)
    if last is not None and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableRangeError
    return ByteRange(start, size if last is None else min(int(last) + 1, size))
