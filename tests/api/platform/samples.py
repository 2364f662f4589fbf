"""Request bodies made from an OpenAPI schema, and the same bodies with one odd value in them."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

ODD_TEXTS: tuple[Any, ...] = ("\0", "a\0b", "\ud800", "x" * 100_000, "", "..", 7, None, [], {})
ODD_NUMBERS: tuple[Any, ...] = (
    -1,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    1e300,
    10**400,
    True,
    "NaN",
    "Infinity",
    None,
    [],
)
ODD_OTHERS: tuple[Any, ...] = ("\0", None, {"\0": "\0"}, {"a": "\0"}, ["\0"], [[]], {"a": 10**400}, {"\ud800": 1})


def sample(schema: Mapping[str, Any], components: Mapping[str, Any], known: Mapping[str, str], name: str = "") -> Any:
    """A body that the schema allows, with known values under their names."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rpartition("/")[2]], components, known, name)
    if name in known:
        return known[name]
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return sample(schema[word][0], components, known, name)
    for word in ("const", "default"):
        if schema.get(word) is not None and schema[word] not in ({}, []):
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {key: sample(one, components, known, key) for key, one in properties.items()} or {"key": "text"}
        case "array":
            return [sample(schema.get("items", {}), components, known, name)]
        case "string":
            formats = {"uuid": "00000000-0000-7000-8000-00000000dead", "date-time": "2026-01-01T00:00:00Z"}
            return formats.get(schema.get("format", ""), "text")
        case "integer" | "number":
            return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
    return "anything"


def odd_bodies(body: Any) -> Iterator[tuple[str, Any]]:
    """The body with one value replaced, for every value in it, and which."""
    for path, value in _leaves(body, ()):
        odd = ODD_NUMBERS if isinstance(value, int | float) else ODD_TEXTS if isinstance(value, str) else ODD_OTHERS
        for one in odd:
            changed = copy.deepcopy(body)
            place = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = one
            yield f"{'.'.join(map(str, path))} = {one!r:.60}", changed


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _leaves(one, (*path, index))
