"""The error types that services raise. They know nothing of HTTP."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, overload

NON_FIELD = "non_field_errors"
"""Key of problems that belong to no single field; clients print them first, without the key."""


class ErrorKind(StrEnum):
    """What sort of failure an error is; the edge turns it into a status number."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True)
class FieldProblem:
    """One thing that is wrong with one field: a sentence for people and a code for programs."""

    message: str
    code: str = "invalid"


FieldProblems = Mapping[str, Iterable[FieldProblem]]
"""What is wrong, by field name."""


class SlipwayError(Exception):
    """Base of all errors that may reach a caller.

    The message says what was wrong, where, and what to do. `code` is stable and may be given per raise;
    `field` names the input that caused it; `details` carries further facts for programs.
    """

    code: str = "internal_error"
    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.details: Mapping[str, object] = MappingProxyType(dict(details or {}))
        if code is not None:
            self.code = code


class _Fields:
    """`error.fields` reads the problems; `Invalid.fields({...})` makes an error out of problems."""

    @overload
    def __get__(self, error: None, owner: "type[Invalid]") -> Callable[[FieldProblems], "Invalid"]: ...

    @overload
    def __get__(self, error: "Invalid", owner: "type[Invalid]") -> Mapping[str, tuple[FieldProblem, ...]]: ...

    def __get__(
        self, error: "Invalid | None", owner: "type[Invalid]"
    ) -> Callable[[FieldProblems], "Invalid"] | Mapping[str, tuple[FieldProblem, ...]]:
        return owner.of_fields if error is None else error.problems


class Invalid(SlipwayError):
    """The request is wrong. `problems` (also `.fields`) maps each wrong field to what is wrong with it.

    It is empty when the error is about the request as a whole.
    """

    code = "invalid"
    kind = ErrorKind.INVALID
    fields = _Fields()

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, field=field, code=code, details=details)
        self.problems: Mapping[str, tuple[FieldProblem, ...]] = (
            {field: (FieldProblem(message, self.code),)} if field is not None else {}
        )

    @classmethod
    def of_fields(cls, problems: FieldProblems) -> "Invalid":
        """Build one error out of the problems of several fields."""
        collected = {name: tuple(found) for name, found in problems.items()}
        text = "; ".join(
            problem.message if name == NON_FIELD else f"{name}: {problem.message}"
            for name, found in collected.items()
            for problem in found
        )
        error = cls(text or "The request is not valid.")
        error.problems = collected
        return error


class Unauthorized(SlipwayError):
    """The caller did not prove who it is."""

    code = "not_authenticated"
    kind = ErrorKind.UNAUTHORIZED


class Forbidden(SlipwayError):
    """The caller is known and may not do this."""

    code = "permission_denied"
    kind = ErrorKind.FORBIDDEN


class NotFound(SlipwayError):
    """The thing does not exist, or the caller may not know that it does."""

    code = "not_found"
    kind = ErrorKind.NOT_FOUND


class Conflict(SlipwayError):
    """The request is right, but the present state does not allow it."""

    code = "conflict"
    kind = ErrorKind.CONFLICT


class StaleWrite(Conflict):
    """The row changed since it was read, or the lease was taken by somebody else."""

    code = "stale_write"


class TooLarge(SlipwayError):
    """The request is bigger than the limit that the message names."""

    code = "too_large"
    kind = ErrorKind.TOO_LARGE


class Unavailable(SlipwayError):
    """Something that is needed cannot be reached now; trying again later may work."""

    code = "unavailable"
    kind = ErrorKind.UNAVAILABLE
