"""Equal failures get equal fingerprints, so that a project can list what fails and how often."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slipway_schemas.lifecycles import END_REASONS, EndReason, ExecutionStatus

_FAILED: Final = frozenset({ExecutionStatus.ERROR, ExecutionStatus.CRASHED})
_LENGTH: Final = 16
_LONGEST_LINE: Final = 300
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_VARIABLE_PARTS: Final = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<address>"),
    (re.compile(r"(?<![\w/])(?:/[\w.@+-]+)*/(?:tmp|scratch|\.?cache)/[^\s'\":,)]+"), "<path>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b", re.IGNORECASE), "<hash>"),
    (re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE), "<n>"),
)


def is_failure(reason: EndReason) -> bool:
    """Whether an attempt that ended so is listed among the failures: stops and successes are not."""
    return END_REASONS[reason].status in _FAILED


def last_error_line(lines: Sequence[Mapping[str, Any]]) -> str:
    """The line that most likely says what failed: the last one on stderr, else the last one at all.

    `lines` are as in an attempt's evidence: `{"stream": ..., "text": ...}`, oldest first.
    """
    said = [one for one in lines if str(one.get("text", "")).strip()]
    errors = [one for one in said if one.get("stream") == "stderr"]
    chosen = (errors or said)[-1:]
    return _ESCAPES.sub("", str(chosen[0]["text"])).strip()[:_LONGEST_LINE] if chosen else ""


def normalised(line: str) -> str:
    """The line without what differs from run to run: numbers, ids, times, addresses, temporary paths."""
    for pattern, replacement in _VARIABLE_PARTS:
        line = pattern.sub(replacement, line)
    return " ".join(line.split())


def fingerprint(reason: EndReason, exit_code: int | None, line: str) -> str:
    """16 hexadecimal digits, the same for failures of the same kind. Depends on nothing but its arguments."""
    # Most programs end with 1 whatever failed, so the line tells more; without one the code is all there is.
    what = normalised(line) or ("" if exit_code is None else f"exit code {exit_code}")
    return hashlib.sha256(f"{reason.value}\0{what}".encode()).hexdigest()[:_LENGTH]
