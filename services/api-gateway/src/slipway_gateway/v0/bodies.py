"""OpenAPI of bodies that come as JSON or as a form (contract 1.1, 'Bodies'); `slipway_kit.body` reads them."""

from typing import Any

from pydantic import BaseModel

FORM_TYPE = "application/x-www-form-urlencoded"


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a route whose body is read by `Depends(json_or_form(model))`."""
    schema = model.model_json_schema()
    inline = _inlined(schema, schema.pop("$defs", {}))
    content = {"application/json": {"schema": inline}, FORM_TYPE: {"schema": {"type": "object"}}}
    return {"requestBody": {"content": content, "required": False}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """`node` with its references replaced: they are relative to a document that is not there any more."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(definitions[str(node["$ref"]).rsplit("/", 1)[-1]], definitions)
    return {name: _inlined(value, definitions) for name, value in node.items()}
