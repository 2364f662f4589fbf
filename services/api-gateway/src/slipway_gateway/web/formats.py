"""How values are written on pages."""

from datetime import UTC, datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SHORT_SHA, _SHORT_PACKAGE = 10, 11
_RECENT_DAYS = 30
_NOTHING = "\N{EN DASH}"


def moment(value: datetime) -> str:
    """A point in time to the second, in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(value: datetime, now: datetime) -> str:
    """How long ago, roughly; a date when that is long."""
    seconds = max(0, int((now - value).total_seconds()))
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h ago"
    if seconds < _RECENT_DAYS * _DAY:
        days = seconds // _DAY
        return f"{days} day{'' if days == 1 else 's'} ago"
    return value.astimezone(UTC).strftime("%Y-%m-%d")


def duration(seconds: float | None) -> str:
    """A length of time with its two largest units."""
    if seconds is None:
        return _NOTHING
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(count: float | None) -> str:
    """A number of bytes in the unit that fits."""
    if count is None:
        return _NOTHING
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{int(value)} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def number(value: Any) -> str:
    """A number as people read it: six digits, no needless zeros."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def short_commit(identifier: str) -> str:
    """The beginning of an identifier, enough to tell commits apart."""
    return identifier[: _SHORT_PACKAGE if identifier.startswith("~") else _SHORT_SHA]


def value_text(value: Any) -> str:
    """A parameter's or setting's value."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(one) for one in value)
    return number(value)
