"""`POST /workers/v1/logs`: chunks of one attempt, named by its token."""

import asyncio
from typing import Final

from fastapi import APIRouter, Request, Response, Security

from slipway_kit.auth import BEARER
from slipway_kit.errors import TooLarge
from slipway_logs.context import factory_of
from slipway_logs.frames import Frame, parse_request
from slipway_schemas.logs import LogsAnswer

MAX_BODY_BYTES = 16 * 1024 * 1024
FRAMES_BODY: Final = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}}
_SMALL_BODY_BYTES = 512 * 1024

router = APIRouter()


@router.post(
    "/workers/v1/logs",
    response_model=LogsAnswer,
    dependencies=[Security(BEARER)],
    responses={409: {}},
    openapi_extra=FRAMES_BODY,
)
async def take_chunks(request: Request) -> Response:
    """Take frames that follow on what is there. An empty body only asks where to continue."""
    factory = factory_of(request)
    claims = factory.attempt_access.claims(request.headers.get("authorization"))
    frames = await frames_of(request)
    answer = await factory.ingest().take(claims, frames)
    return Response(answer.model_dump_json(), media_type="application/json")


async def frames_of(request: Request) -> list[Frame]:
    """The frames that a request carries. Raises `Invalid`, `TooLarge`."""
    body = await _body(request)
    return parse_request(body) if len(body) <= _SMALL_BODY_BYTES else await asyncio.to_thread(parse_request, body)


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"A request may carry at most {MAX_BODY_BYTES} bytes of frames; send fewer at a time.")
        chunks.append(chunk)
    return b"".join(chunks)
