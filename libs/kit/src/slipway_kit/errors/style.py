"""How an app words its errors."""

from collections.abc import Callable
from enum import StrEnum


class ErrorStyle(StrEnum):
    """How an app words its errors."""

    V0 = "v0"
    PROBLEM = "problem"


StyleOf = Callable[[str], ErrorStyle]
"""Chooses the style by request path, for an app that serves both APIs."""
