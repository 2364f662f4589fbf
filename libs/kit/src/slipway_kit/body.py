"""Bodies that may come as JSON or as a form, as old and new clients of the compatible API send them."""

import json
import types
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from slipway_kit.errors import FieldProblem, Invalid, TooLarge, invalid_from_validation
from slipway_schemas.storable import NOT_STORABLE, is_storable

M = TypeVar("M", bound=BaseModel)
DEFAULT_LIMIT_BYTES = 10 * 1024 * 1024
_NOT_STORABLE = FieldProblem(NOT_STORABLE, "invalid")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def json_or_form(model: type[M], *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Callable[[Request], Awaitable[M]]:
    """Make a FastAPI dependency that reads the body as `model`: JSON, urlencoded or multipart text fields.

    A form key given several times becomes a list where the model's field is a list. Raises `Invalid` by
    field, on `detail` when the body cannot be parsed, and `TooLarge` above `limit_bytes`.
    """

    async def parse(request: Request) -> M:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        # Starlette keeps the body, so the form parser reads the bytes that were counted here.
        content = await _read_limited(request, limit_bytes)
        values = await _form_values(request, model) if kind in _FORMS else _json_value(content)
        problems = {
            name: [_NOT_STORABLE] for name, value in values.items() if not is_storable(name) or not is_storable(value)
        }
        if problems:
            raise Invalid.of_fields(
                {name if is_storable(name) else "detail": found for name, found in problems.items()}
            )
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise invalid_from_validation(error.errors(include_url=False)) from error

    return parse


async def _read_limited(request: Request, limit: int) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > limit:
            raise TooLarge(f"The request body is larger than the limit of {limit} bytes.")
    content = bytes(parts)
    request._body = content
    return content


def _json_value(content: bytes) -> Any:
    if not content.strip():
        return {}
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"The request body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise _unreadable("The request body must be a JSON object with keys and values.")
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number of JSON")


async def _form_values(request: Request, model: type[BaseModel]) -> dict[str, Any]:
    try:
        async with request.form() as form:
            return _collect(form, model)
    except HTTPException as error:
        raise _unreadable(f"The form cannot be read: {error.detail}.") from error


def _collect(form: FormData, model: type[BaseModel]) -> dict[str, Any]:
    lists = {field.alias or name for name, field in model.model_fields.items() if _is_list(field.annotation)}
    values: dict[str, Any] = {}
    for key in form:
        texts = [value for value in form.getlist(key) if isinstance(value, str)]
        if texts:
            values[key] = texts if key in lists else texts[-1]
    return values


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_list(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return any(_is_list(one) for one in get_args(annotation))
    return (origin or annotation) in (list, tuple, set, frozenset)


def _unreadable(message: str) -> Invalid:
    return Invalid.of_fields({"detail": [FieldProblem(message, "parse_error")]})
