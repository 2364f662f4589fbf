"""The test call: one request of a person to an endpoint of their own, made by the server.

The address is built here, out of rows; of the request come the method, what follows the endpoint's path, some headers
and the body. Redirects are not followed, so nothing else can be reached.
"""

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode

from pydantic import BaseModel, ConfigDict, Field

from slipway_gateway.identity.domain import User
from slipway_gateway.inference.keys import KeyService
from slipway_gateway.inference.versions import ServedEndpoint
from slipway_kit.clock import Clock
from slipway_kit.errors import Invalid
from slipway_kit.http import OutsideError, outside_client
from slipway_schemas.inference.routing import PREFIX_HEADER, VERSION_HEADER

MAX_SECONDS = 60.0
MAX_ANSWER_BYTES = 1024**2
_KEY_LIFETIME = timedelta(minutes=2)
_KNOWN_WITHIN_SECONDS = 5.0
"""How long the routers may need until they know the key that was made for the call."""
_RETRY_SECONDS = 0.1
_REFUSED = (401, 403)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_ALLOWED_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent", "if-none-match"})
_PLATFORM_HEADERS = ("x-api-key", PREFIX_HEADER.lower(), "x-forwarded-", "x-slipway-", "x-real-ip")
_MAX_PATH = 2048
_MAX_QUERY = 8192


class TrialFile(BaseModel):
    """A file of a multipart form."""

    filename: str = Field(min_length=1, max_length=255)
    content_base64: str
    content_type: str = Field(default="application/octet-stream", max_length=255, pattern=r"^[ -~]+$")


class TrialRequest(BaseModel):
    """A request to send. Give one of `body`, `body_base64`, `json`, or `fields` with `files` (a multipart form)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str = Field(default="", max_length=_MAX_PATH, description="What follows the endpoint's own path.")
    query: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict, description="Accept, Content-Type, and those with X-.")
    body: str | None = None
    body_base64: str | None = None
    json_body: Any = Field(default=None, alias="json")
    fields: dict[str, str] = Field(default_factory=dict)
    files: dict[str, TrialFile] = Field(default_factory=dict)
    alias: str | None = Field(default=None, max_length=64, description="Call through this alias, not by version.")
    key: str | None = Field(
        default=None,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="A consumer's key; without one a key is made for this call.",
    )
    timeout_seconds: float = Field(default=30.0, gt=0, le=MAX_SECONDS)


class TrialAnswer(BaseModel):
    """What came back. `status` is null, and `error` says why, when no answer came."""

    url: str
    status: int | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    version: str | None = Field(default=None, description="The version that answered, as its header names it.")
    body: str | None = None
    body_base64: str | None = Field(default=None, description="The body, where it is not text.")
    truncated: bool = False
    elapsed_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Call:
    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None
    fields: dict[str, str]
    files: dict[str, tuple[str, bytes, str]]


class TrialService:
    """Makes test calls."""

    def __init__(self, keys: KeyService, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    async def call(self, user: User, served: ServedEndpoint, request: TrialRequest) -> TrialAnswer:
        """Send the request, with a key. Raises `Invalid` for a request that is not sent."""
        deployment = served.version.deployment
        segment = request.alias or served.version.name
        call = _prepared(deployment.url_of(segment, served.endpoint.name), request)
        if request.key is not None or deployment.public:
            return await _sent(call, request.key, request.timeout_seconds)
        issued = await self._keys.issue(
            user,
            deployment.id,
            consumer=f"test call of {user.username}",
            endpoints=(served.endpoint.name,),
            expires_at=self._clock.now() + _KEY_LIFETIME,
            hidden=True,
        )
        try:
            return await self._sent_when_known(call, issued.value, request.timeout_seconds)
        finally:
            await asyncio.shield(self._keys.end_hidden(user, issued))

    @staticmethod
    async def _sent_when_known(call: _Call, key: str, timeout: float) -> TrialAnswer:
        """The routers may refuse the new key for a moment; an answer of the version itself is never asked for twice."""
        deadline = time.monotonic() + _KNOWN_WITHIN_SECONDS
        while True:
            answer = await _sent(call, key, timeout)
            by_router = answer.status in _REFUSED and answer.version is None
            if not by_router or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(_RETRY_SECONDS)


def _prepared(root: str, request: TrialRequest) -> _Call:
    content = _body(request)
    headers = _headers(request.headers)
    if request.json_body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/json"
    files = {
        name: (one.filename, _decoded(one.content_base64, f"files.{name}"), one.content_type)
        for name, one in request.files.items()
    }
    query = f"?{urlencode(request.query)}" if request.query else ""
    if len(query) > _MAX_QUERY:
        raise Invalid(f"The query is longer than {_MAX_QUERY} characters; send a body instead.", field="query")
    return _Call(request.method, root + _suffix(request.path) + query, headers, content, request.fields, files)


def _suffix(path: str) -> str:
    """What follows the endpoint's path, so written that it cannot lead anywhere else. Raises `Invalid`."""
    plain = path.strip().lstrip("/")
    decoded = unquote(plain)
    parts = decoded.split("/")
    odd = any(char in decoded for char in "\\?#") or not decoded.isprintable()
    if odd or ".." in parts or "." in parts:
        raise Invalid(
            "The path follows the endpoint's own: without '..', '?' and '#'; a query goes into `query`.", field="path"
        )
    return "/" + "/".join(quote(part, safe="@:~!$&'()*+,;=") for part in parts) if plain else ""


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for name, value in given.items():
        low = name.lower()
        allowed = low in _ALLOWED_HEADERS or (low.startswith("x-") and not low.startswith(_PLATFORM_HEADERS))
        if not _HEADER_NAME.fullmatch(name) or not allowed:
            raise Invalid(
                f"The header {name!r:.80} cannot be sent; Accept, Content-Type and those of your own with X- can.",
                field="headers",
            )
        if not value.isascii() or not value.isprintable():
            raise Invalid(f"The value of the header {name} has characters that headers cannot have.", field="headers")
        headers[name] = value
    return headers


def _body(request: TrialRequest) -> bytes | None:
    form = bool(request.fields or request.files)
    if sum([request.body is not None, request.body_base64 is not None, request.json_body is not None, form]) > 1:
        raise Invalid("Give one of body, body_base64, json, or fields with files.", field="body")
    if request.body is not None:
        return request.body.encode()
    if request.body_base64 is not None:
        return _decoded(request.body_base64, "body_base64")
    if request.json_body is not None:
        return json.dumps(request.json_body).encode()
    return None


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("This is not base64.", field=field) from error


async def _sent(call: _Call, key: str | None, timeout: float) -> TrialAnswer:
    headers = {**call.headers, "Accept-Encoding": "identity"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    begun = time.monotonic()
    body = bytearray()
    try:
        async with (
            asyncio.timeout(timeout),
            outside_client(timeout=timeout, use_proxies=False) as client,
            client.stream(
                call.method,
                call.url,
                headers=headers,
                content=call.content,
                data=call.fields or None,
                files=call.files or None,
            ) as answer,
        ):
            async for part in answer.aiter_raw():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    break
    except TimeoutError:
        return TrialAnswer(url=call.url, error=f"No whole answer came within {timeout:g} s.")
    except OutsideError as error:
        return TrialAnswer(url=call.url, error=f"The endpoint cannot be reached: {str(error) or type(error).__name__}.")
    text, binary = _shown(bytes(body))
    return TrialAnswer(
        url=call.url,
        status=answer.status_code,
        headers={name: value for name, value in answer.headers.items() if name.lower() != "set-cookie"},
        version=answer.headers.get(VERSION_HEADER),
        body=text,
        body_base64=binary,
        truncated=len(body) > MAX_ANSWER_BYTES,
        elapsed_ms=round((time.monotonic() - begun) * 1000, 1),
    )


def _shown(body: bytes) -> tuple[str | None, str | None]:
    """The body as text, or in base64 where it is none."""
    kept = body[:MAX_ANSWER_BYTES]
    try:
        # A cut may fall inside a character: what is lost of it is at most three bytes.
        return kept.decode(errors="ignore" if len(kept) < len(body) else "strict"), None
    except UnicodeDecodeError:
        return None, base64.b64encode(kept).decode()
