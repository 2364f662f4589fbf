"""Errors on the wire between services: RFC 9457 problem documents, written and read back here."""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from slipway_kit.errors.types import (
    Conflict,
    ErrorKind,
    FieldProblem,
    Forbidden,
    Invalid,
    NotFound,
    SlipwayError,
    StaleWrite,
    TooLarge,
    Unauthorized,
    Unavailable,
)

PROBLEM_TYPE = "application/problem+json"

STATUS_OF: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHORIZED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.INTERNAL: 500,
    ErrorKind.UNAVAILABLE: 503,
}

_TITLES: dict[ErrorKind, str] = {
    ErrorKind.INVALID: "The request is not valid",
    ErrorKind.UNAUTHORIZED: "Not authenticated",
    ErrorKind.FORBIDDEN: "Not allowed",
    ErrorKind.NOT_FOUND: "Not found",
    ErrorKind.CONFLICT: "Conflict with the present state",
    ErrorKind.TOO_LARGE: "Too large",
    ErrorKind.INTERNAL: "Internal error",
    ErrorKind.UNAVAILABLE: "Temporarily unavailable",
}

_TYPES: dict[int, type[SlipwayError]] = {
    STATUS_OF[kind.kind]: kind for kind in (Invalid, Unauthorized, Forbidden, NotFound, Conflict, TooLarge, Unavailable)
}
_GATEWAY_FAILURES = {502, 503, 504}


class ProblemField(BaseModel):
    """One wrong thing about one field."""

    message: str
    code: str


class Problem(BaseModel):
    """The body of an error answer, `application/problem+json`."""

    model_config = ConfigDict(extra="ignore")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    fields: dict[str, list[ProblemField]] | None = None
    details: dict[str, object] | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: SlipwayError, *, request_id: str | None = None) -> Self:
        """Describe an error; `type` is a stable URN made from its code."""
        fields = error.problems if isinstance(error, Invalid) else {}
        return cls(
            type=f"urn:slipway:error:{error.code}",
            title=_TITLES[error.kind],
            status=STATUS_OF[error.kind],
            detail=error.message,
            code=error.code,
            field=error.field,
            fields={
                name: [ProblemField(message=one.message, code=one.code) for one in found]
                for name, found in fields.items()
            }
            or None,
            details=dict(error.details) or None,
            request_id=request_id,
        )


def error_from_problem(status: int, body: bytes, *, source: str) -> SlipwayError:
    """Turn an error answer of a neighbour back into the error that it raised.

    `source` names the neighbour and path; it is used when the body is not a problem document.
    """
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return _error_without_problem(status, source)
    kind = _TYPES.get(status, Unavailable if status in _GATEWAY_FAILURES else SlipwayError)
    if kind is Conflict and problem.code == StaleWrite.code:
        kind = StaleWrite
    error = kind(problem.detail, field=problem.field, code=problem.code, details=problem.details)
    if isinstance(error, Invalid) and problem.fields:
        error.problems = {
            name: tuple(FieldProblem(one.message, one.code) for one in found) for name, found in problem.fields.items()
        }
    return error


def _error_without_problem(status: int, source: str) -> SlipwayError:
    message = f"{source} answered with status {status} and no description of the problem."
    if status in _GATEWAY_FAILURES:
        return Unavailable(message)
    return _TYPES.get(status, SlipwayError)(message)
