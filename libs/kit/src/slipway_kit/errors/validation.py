"""Turns Pydantic's validation errors into sentences for people and codes for programs, by field."""

from collections.abc import Iterable, Mapping
from typing import Any

from slipway_kit.errors.types import NON_FIELD, FieldProblem, Invalid

_REQUIRED = {"missing"}
_BLANK = {"string_too_short", "too_short"}
_KINDS_OF_VALUE = {
    "int": "A valid integer is required.",
    "float": "A valid number is required.",
    "decimal": "A valid number is required.",
    "bool": "Use true or false here.",
    "string": "This must be text.",
    "uuid": "This must be a valid UUID.",
    "datetime": "This must be a date and time in ISO 8601 format.",
    "date": "This must be a date in ISO 8601 format (YYYY-MM-DD).",
    "time": "This must be a time in ISO 8601 format.",
    "url": "Enter a complete URL, with its scheme.",
    "list": "A list of items is expected here.",
    "tuple": "A list of items is expected here.",
    "set": "A list of items is expected here.",
    "dict": "An object with keys and values is expected here.",
    "model": "An object with keys and values is expected here.",
    "dataclass": "An object with keys and values is expected here.",
    "bytes": "This must be text.",
}
_EDGES = {"body", "query", "path", "header", "cookie"}


def invalid_from_validation(errors: Iterable[Mapping[str, Any]]) -> Invalid:
    """Build an `Invalid` from the list that `ValidationError.errors()` of Pydantic or FastAPI returns."""
    fields: dict[str, list[FieldProblem]] = {}
    for error in errors:
        name = field_name(error.get("loc", ()))
        if error["type"] == "json_invalid":
            name = "detail"
        elif not name:
            name = NON_FIELD
        problem = problem_of(error)
        if problem not in fields.setdefault(name, []):
            fields[name].append(problem)
    return Invalid.of_fields(fields)


def field_name(location: Iterable[str | int]) -> str:
    """Join a Pydantic location with dots, without the part that names where in the request it stood."""
    parts = list(location)
    if parts and parts[0] in _EDGES:
        parts = parts[1:]
    return ".".join(str(part) for part in parts)


def problem_of(error: Mapping[str, Any]) -> FieldProblem:
    """Say one Pydantic error in words that do not need knowledge of Pydantic."""
    kind = str(error["type"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind in _REQUIRED:
        return FieldProblem("This field is required.", "required")
    if error.get("input", ...) is None and kind.endswith(("_type", "_parsing")):
        return FieldProblem("This field may not be null.", "null")
    return (
        _about_json(kind, context)
        or _about_size(kind, context)
        or _about_choice(kind, context)
        or _about_type(kind)
        or FieldProblem(_sentence(str(error.get("msg", "This value is not valid."))), "invalid")
    )


def _about_json(kind: str, context: Mapping[str, Any]) -> FieldProblem | None:
    if kind != "json_invalid":
        return None
    reason = context.get("error", "it cannot be parsed")
    return FieldProblem(f"The request body is not valid JSON: {reason}.", "parse_error")


def _about_size(kind: str, context: Mapping[str, Any]) -> FieldProblem | None:
    if kind in _BLANK and context.get("min_length") == 1:
        return FieldProblem("This field may not be empty.", "blank")
    match kind:
        case "string_too_short":
            return FieldProblem(f"Use at least {context['min_length']} characters.", "min_length")
        case "string_too_long":
            return FieldProblem(f"Use at most {context['max_length']} characters.", "max_length")
        case "too_short":
            return FieldProblem(f"Give at least {context['min_length']} items.", "min_length")
        case "too_long":
            return FieldProblem(f"Give at most {context['max_length']} items.", "max_length")
        case "greater_than_equal":
            return FieldProblem(f"Use a value of at least {context['ge']}.", "min_value")
        case "greater_than":
            return FieldProblem(f"Use a value above {context['gt']}.", "min_value")
        case "less_than_equal":
            return FieldProblem(f"Use a value of at most {context['le']}.", "max_value")
        case "less_than":
            return FieldProblem(f"Use a value below {context['lt']}.", "max_value")
        case _:
            return None


def _about_choice(kind: str, context: Mapping[str, Any]) -> FieldProblem | None:
    match kind:
        case "enum" | "literal_error":
            return FieldProblem(f"This is not one of the choices: {context['expected']}.", "invalid_choice")
        case "extra_forbidden":
            return FieldProblem("This field is not known here. Remove it or correct its name.", "unknown_field")
        case _:
            return None


def _about_type(kind: str) -> FieldProblem | None:
    text = _KINDS_OF_VALUE.get(kind.split("_", maxsplit=1)[0])
    return FieldProblem(text, "invalid") if text else None


def _sentence(text: str) -> str:
    """Drop Pydantic's prefix of errors raised by validators and end with a full stop."""
    text = text.removeprefix("Value error, ").removeprefix("Assertion failed, ").strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
