"""Collects what is wrong with a request, so that one answer names everything at once."""

from typing import NamedTuple


class Problem(NamedTuple):
    """One wrong thing: what, where and how to put it right, and a code for programs."""

    message: str
    code: str


class Problems:
    """Problems by field of the request. The service turns them into one error."""

    def __init__(self) -> None:
        self.found: dict[str, list[Problem]] = {}

    def add(self, field: str, message: str, code: str = "invalid") -> None:
        """Note one problem of one field."""
        self.found.setdefault(field, []).append(Problem(message, code))
