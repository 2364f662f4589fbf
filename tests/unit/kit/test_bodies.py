"""Bodies that come as JSON or as a form: what no database keeps is refused by field."""

import pytest
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from slipway_kit.body import json_or_form
from slipway_kit.errors import Invalid


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


async def read(content: bytes) -> Anything:
    async def receive() -> dict:
        return {"type": "http.request", "body": content, "more_body": False}

    return await json_or_form(Anything)(Request({"type": "http", "headers": []}, receive))


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"a": "x\\u0000"}', "a"),
        (b'{"a": {"b": ["\\ud800"]}}', "a"),
        (b'{"a": [1e999]}', "a"),
        (b'{"\\u0000": 1}', "detail"),
        (b'{"a": NaN}', "detail"),
        (b'{"a": -Infinity}', "detail"),
        (b"[1]", "detail"),
    ],
)
async def test_what_cannot_be_stored_is_refused(content: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await read(content)
    assert list(caught.value.problems) == [field]


async def test_text_beyond_ascii_is_kept() -> None:
    content = '{"a": "åß\\ud83d\\ude00", "b": [1.5, null]}'.encode()
    assert (await read(content)).model_extra == {"a": "åß😀", "b": [1.5, None]}
