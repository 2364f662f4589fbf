"""Writes into an OpenAPI document which errors each operation answers, and in which shape.

What follows from the operation itself is derived: a body or a query can be wrong, who is secured asks for proof, an
address can name nothing. A route declares the rest by number alone, as in `responses={409: {}}`.
"""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic.json_schema import models_json_schema

from slipway_kit.errors.problems import PROBLEM_TYPE, Problem, ProblemField
from slipway_kit.errors.style import ErrorStyle, StyleOf

REF_TEMPLATE = "#/components/schemas/{model}"
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_DESCRIPTIONS = {
    HTTPStatus.BAD_REQUEST: "The request is not valid; the body says why, by field where one is wrong.",
    HTTPStatus.UNAUTHORIZED: "No token, or one that is wrong, expired or revoked.",
    HTTPStatus.FORBIDDEN: "The caller is known and may not do this.",
    HTTPStatus.NOT_FOUND: "It does not exist, or the caller may not see it.",
    HTTPStatus.CONFLICT: "The present state does not allow it.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the limit that the message names.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Something that is needed cannot be reached now; try again later.",
}
_TEXT_HEADER = {"schema": {"type": "string"}}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": _TEXT_HEADER},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": _TEXT_HEADER},
}


class MessageV0(BaseModel):
    """An error of the compatible API that belongs to no field."""

    message: str
    code: str


class FieldErrorsV0(RootModel[dict[str, list[ProblemField]]]):
    """What is wrong in the compatible API, by field."""


def describe_errors(document: dict[str, Any], style: ErrorStyle | StyleOf) -> None:
    """Add the error answers of all operations to an app's OpenAPI `document`."""
    used: set[ErrorStyle] = set()
    answers: dict[str, Any] = {}
    for path, methods in document["paths"].items():
        wanted = style if isinstance(style, ErrorStyle) else style(path)
        for method, operation in methods.items():
            if method in _METHODS:
                answers |= _describe(operation, wanted)
                used.add(wanted)
    if answers:
        document.setdefault("components", {})["responses"] = answers
    models = {ErrorStyle.V0: (MessageV0, FieldErrorsV0), ErrorStyle.PROBLEM: (Problem,)}
    add_schemas(document, *(model for one in sorted(used) for model in models[one]))


def add_schemas(document: dict[str, Any], *models: type[BaseModel]) -> None:
    """Add these models to the components of an OpenAPI `document`."""
    _, made = models_json_schema([(model, "serialization") for model in models], ref_template=REF_TEMPLATE)
    document.setdefault("components", {}).setdefault("schemas", {}).update(made.get("$defs", {}))


def _describe(operation: dict[str, Any], style: ErrorStyle) -> dict[str, Any]:
    """Refer an operation to its error answers; returns these by the names that it uses."""
    named: dict[str, Any] = {}
    responses = operation["responses"]
    responses.pop("422", None)
    declared = {HTTPStatus(int(status)) for status in responses if status.isdecimal() and int(status) >= 400}
    for status in sorted(declared | _derived(operation)):
        name = f"{style}_{status.value}"
        named[name] = {"description": _DESCRIPTIONS.get(status, status.phrase), "content": _content(style)}
        if status in _HEADERS:
            named[name]["headers"] = _HEADERS[status]
        responses[str(status.value)] = {"$ref": f"#/components/responses/{name}"}
    return named


def _derived(operation: dict[str, Any]) -> set[HTTPStatus]:
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    found = {HTTPStatus.SERVICE_UNAVAILABLE}
    if "requestBody" in operation:
        found |= {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    if places - {"path"}:
        found.add(HTTPStatus.BAD_REQUEST)
    if "path" in places:
        found.add(HTTPStatus.NOT_FOUND)
    if operation.get("security"):
        found |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return found


def _content(style: ErrorStyle) -> dict[str, Any]:
    if style is ErrorStyle.PROBLEM:
        return {PROBLEM_TYPE: {"schema": {"$ref": REF_TEMPLATE.format(model="Problem")}}}
    shapes = [{"$ref": REF_TEMPLATE.format(model=name)} for name in ("MessageV0", "FieldErrorsV0")]
    return {"application/json": {"schema": {"anyOf": shapes}}}
