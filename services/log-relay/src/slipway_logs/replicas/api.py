"""Logs of endpoints over HTTP: the builder writes, the gateway reads, browsers follow."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response, Security
from fastapi.responses import StreamingResponse

from slipway_kit.service import stopping_event
from slipway_logs.access import USER_TOKEN
from slipway_logs.context import factory_of
from slipway_logs.ingest.api import FRAMES_BODY, frames_of
from slipway_logs.replicas.domain import REPLICA_PATTERN, Cursor, replica_source
from slipway_logs.replicas.service import ReplicaLogService
from slipway_logs.times import iso_utc, time_us_of
from slipway_schemas.inference.versions import EndpointLines
from slipway_schemas.logs import LogsAnswer

writing = APIRouter(prefix="/internal/v1")
reading = APIRouter(prefix="/internal/v1")
public = APIRouter(dependencies=[Security(USER_TOKEN)])

_FIRST_LINES = 1000
_LOOK_SECONDS = 0.5
_KEEP_ALIVE_LOOKS = 30
_encoder = msgspec.json.Encoder()


@writing.post(
    "/endpoints/{endpoint_id}/replicas/{replica}/log/{day}", response_model=LogsAnswer, openapi_extra=FRAMES_BODY
)
async def take_lines(
    endpoint_id: UUID, replica: Annotated[str, Path(pattern=REPLICA_PATTERN)], day: date, request: Request
) -> Response:
    """Take frames of a replica's lines of one day (UTC) that follow on what is there; what is there is passed over.

    An empty body only asks where to continue.
    """
    factory = factory_of(request)
    frames = await frames_of(request)
    answer = await factory.ingest().take_from_replica(replica_source(endpoint_id, replica, day), frames)
    return Response(answer.model_dump_json(), media_type="application/json")


@reading.get("/endpoints/{endpoint_id}/log")
async def newest_lines(
    endpoint_id: UUID, request: Request, limit: Annotated[int, Query(ge=1, le=10_000)] = _FIRST_LINES
) -> EndpointLines:
    """The newest lines of all replicas, also of those that are gone."""
    return await factory_of(request).replicas().newest(endpoint_id, limit)


@reading.get("/endpoints/{endpoint_id}/metadata", response_model=list[dict[str, Any]])
async def metadata_records(
    endpoint_id: UUID, request: Request, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Response:
    """The newest metadata records of all replicas, oldest first, with `_time`."""
    records = await factory_of(request).replicas().records(endpoint_id, limit)
    return Response(_encoder.encode(records), media_type="application/json")


@public.get("/api/v1/streams/deployment-endpoints/{endpoint_id}/log/", response_class=StreamingResponse)
async def live_log(
    endpoint_id: UUID, request: Request, start: Annotated[str, Query(alias="from", max_length=100_000)] = ""
) -> StreamingResponse:
    """Server-sent events `lines`, each a JSON list of lines of one replica.

    Without `from` (`next` of the endpoint's log) the newest lines come first. Each event's id is the place behind it,
    with which a browser that reconnects goes on.
    """
    factory = factory_of(request)
    await factory.user_access().require_endpoint(request, endpoint_id)
    place = request.headers.get("last-event-id") or start
    stream = _live(factory.replicas(), endpoint_id, Cursor.parse(place) if place else None, stopping_event(request))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _live(
    service: ReplicaLogService, endpoint_id: UUID, cursor: Cursor | None, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    if cursor is None:
        newest = await service.newest(endpoint_id, _FIRST_LINES)
        cursor = Cursor.parse(newest.next)
        lines = [
            {"replica": one.replica, "stream": one.stream, "time": iso_utc(time_us_of(one.at)), "message": one.text}
            for one in newest.lines
        ]
        yield _event(cursor, lines)
    quiet = 0
    while not stopping.is_set():
        quiet += 1
        async for place, found in service.lines_after(endpoint_id, cursor):
            quiet, cursor = 0, place
            yield _event(place, found)
        if quiet >= _KEEP_ALIVE_LOOKS:
            quiet = 0
            yield b": still here\n\n"
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await stopping.wait()
        except TimeoutError:
            continue


def _event(cursor: Cursor, lines: object) -> bytes:
    return b"id: %s\nevent: lines\ndata: %s\n\n" % (str(cursor).encode(), _encoder.encode(lines))
