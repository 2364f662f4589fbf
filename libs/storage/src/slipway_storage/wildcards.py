"""Wildcards in store URIs, and the name that each matched file gets below an input's directory.

Rules of `valohai.yaml`: `*` matches within a directory, `**` across directories (`**.jpg`); `/**/` also
matches no directory at all. `keep-directories` is none (flat), suffix (the path below the wildcard root) or
full (the path from the root of the store).
"""

import re
from collections.abc import Iterable
from enum import StrEnum

from slipway_kit.errors import Invalid
from slipway_storage.keys import check_key

_TOKENS = re.compile(r"(?:(?<=/)|(?<=^))\*\*/|\*\*|\*|[^*]+")


class KeepDirectories(StrEnum):
    """How much of a file's path is kept below the input's directory."""

    NONE = "none"
    SUFFIX = "suffix"
    FULL = "full"


def has_wildcard(pattern: str) -> bool:
    """Whether a key is a pattern."""
    return "*" in pattern


def wildcard_root(pattern: str) -> str:
    """The directory above the first wildcard (or above the file), without a slash at its end: what has to
    be listed."""
    return pattern.split("*", 1)[0].rpartition("/")[0]


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression for `fullmatch` on whole keys."""
    expressions = {"**/": r"(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile(
        "".join(expressions.get(token) or re.escape(token) for token in _TOKENS.findall(pattern)), re.DOTALL
    )


def matching(pattern: str, keys: Iterable[str]) -> list[str]:
    """The keys that a pattern names, in their order."""
    expression = compile_pattern(pattern)
    return [key for key in keys if expression.fullmatch(key)]


def destination(
    key: str, *, pattern: str, keep: KeepDirectories = KeepDirectories.NONE, filename: str | None = None
) -> str:
    """Where a matched file goes below its input's directory. `filename` renames; it fits a single file only.

    Raises `Invalid` when the result would leave that directory.
    """
    if filename is not None:
        if has_wildcard(pattern):
            raise Invalid(
                "filename renames a single file; it cannot go with a wildcard. Remove one of the two.",
                field="filename",
            )
        return check_key(filename)
    match keep:
        case KeepDirectories.FULL:
            return check_key(key)
        case KeepDirectories.SUFFIX:
            root = wildcard_root(pattern)
            return check_key(key.removeprefix(f"{root}/") if root else key)
        case KeepDirectories.NONE:
            return check_key(key.rpartition("/")[2])


def destinations(pattern: str, keys: Iterable[str], *, keep: KeepDirectories = KeepDirectories.NONE) -> dict[str, str]:
    """Name below the input's directory → key, for all matches. Of two files with the same name the last
    wins."""
    return {destination(key, pattern=pattern, keep=keep): key for key in matching(pattern, keys)}
