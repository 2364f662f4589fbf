"""The API for people: its routes out of the app's own OpenAPI document, drawn by us."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from slipway_gateway.identity.dependencies import Context
from slipway_gateway.web.access import session_user
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.rendering import render

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Field:
    """A parameter of a route, or a field of its body."""

    name: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    description: str
    fields: tuple[Field, ...]


@router.get("/api/docs/")
async def docs(request: Request, context: Context) -> Response:
    """All routes by topic."""
    user = await session_user(request, context)
    groups = operations_of(request.app.openapi())
    return render(request, "api_docs.html", user=user, groups=groups, openapi=request.app.openapi_url)


def operations_of(document: dict[str, Any]) -> dict[str, list[Operation]]:
    """Operations of an OpenAPI document by their first tag, by path."""
    groups: defaultdict[str, list[Operation]] = defaultdict(list)
    for path, item in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in item:
                found = item[method]
                fields = (*_parameters(found, document), *_body(found, document))
                description = str(found.get("description") or found.get("summary") or "")
                tag = (found.get("tags") or ["general"])[0]
                groups[tag].append(Operation(method.upper(), path, description, fields))
    return dict(sorted(groups.items()))


def _parameters(operation: dict[str, Any], document: dict[str, Any]) -> list[Field]:
    return [
        Field(
            one["name"],
            one["in"],
            _type(one.get("schema", {}), document),
            bool(one.get("required")),
            str(one.get("description", "")),
        )
        for one in operation.get("parameters", ())
    ]


def _body(operation: dict[str, Any], document: dict[str, Any]) -> list[Field]:
    content = operation.get("requestBody", {}).get("content", {})
    schema: dict[str, Any] = next((one.get("schema", {}) for one in content.values()), {})
    schema = _resolved(schema, document)
    required = set(schema.get("required", ()))
    return [
        Field(name, "body", _type(one, document), name in required, str(one.get("description", "")))
        for name, one in schema.get("properties", {}).items()
    ]


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = document["components"]["schemas"].get(reference.rpartition("/")[2], {})
    return found


def _type(schema: dict[str, Any], document: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(_type(one, document) for one in schema[key]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), document)}"
    return str(schema.get("format") or schema.get("type") or "any")
