"""Errors are types with a stable code and a kind; HTTP numbers appear only in `handlers`."""

from slipway_kit.errors.handlers import install_error_handlers
from slipway_kit.errors.problems import Problem, error_from_problem
from slipway_kit.errors.style import ErrorStyle, StyleOf
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
from slipway_kit.errors.validation import invalid_from_validation

__all__ = [
    "Conflict",
    "ErrorKind",
    "ErrorStyle",
    "FieldProblem",
    "Forbidden",
    "Invalid",
    "NotFound",
    "Problem",
    "SlipwayError",
    "StaleWrite",
    "StyleOf",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "error_from_problem",
    "install_error_handlers",
    "invalid_from_validation",
]
