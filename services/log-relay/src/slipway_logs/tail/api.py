"""Logs for people: the internal API that the gateway passes on, and the live stream that browsers read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request, Response, Security
from fastapi.responses import StreamingResponse

from slipway_kit.service import stopping_event
from slipway_logs.access import USER_TOKEN
from slipway_logs.context import factory_of
from slipway_logs.tail.hub import TailHub
from slipway_logs.tail.service import EventsAnswer, TailService

internal = APIRouter(prefix="/internal/v1")
public = APIRouter(dependencies=[Security(USER_TOKEN)])

_KEEP_ALIVE_SECONDS = 15.0
_encoder = msgspec.json.Encoder()

Limit = Annotated[int | None, Query(ge=0)]


@internal.get("/executions/{execution_id}/events", response_model=dict[str, Any])
async def events(execution_id: UUID, request: Request, limit: Limit = None) -> StreamingResponse:
    """The last `limit` lines (2,000 without, all with 0) as `{"total", "truncated", "events"}`."""
    answer = await factory_of(request).tail().events(execution_id, limit)
    return StreamingResponse(_event_json(answer), media_type="application/json")


async def _event_json(answer: EventsAnswer) -> AsyncIterator[bytes]:
    head = _encoder.encode({"total": answer.total, "truncated": answer.truncated})
    yield head[:-1] + b',"events":['
    comma = b""
    async for events in answer.events:
        if events:
            yield comma + _encoder.encode(events)[1:-1]
            comma = b","
    yield b"]}"


@internal.get("/executions/{execution_id}/status-events", response_model=dict[str, Any])
async def status_events(execution_id: UUID, request: Request, limit: Limit = None) -> Response:
    """The first `limit` status lines as `{"total", "status_events"}`."""
    answer = await factory_of(request).tail().status_events(execution_id, limit)
    return Response(_encoder.encode(answer), media_type="application/json")


@internal.get("/executions/{execution_id}/log", response_class=StreamingResponse)
async def raw_log(execution_id: UUID, request: Request) -> StreamingResponse:
    """What the run printed, byte for byte."""
    service = factory_of(request).tail()
    return StreamingResponse(service.raw(execution_id), media_type="text/plain; charset=utf-8")


@public.get("/api/v1/streams/executions/{execution_id}/log/", response_class=StreamingResponse)
async def live_log(
    execution_id: UUID, request: Request, cursor: Annotated[int, Query(alias="from", ge=0)] = 0
) -> StreamingResponse:
    """Server-sent events: `lines` with a JSON list of lines, then `end` once the execution is final.

    Each event's id is the number of the next line, with which a browser that reconnects goes on
    (`Last-Event-ID`, HTML standard, 'Server-sent events').
    """
    factory = factory_of(request)
    await factory.user_access().require_execution(request, execution_id)
    last_id = request.headers.get("last-event-id", "")
    start = int(last_id) if last_id.isdecimal() else cursor
    stream = _live(factory.tail(), factory.hub, execution_id, start, stopping_event(request))
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _live(
    service: TailService, hub: TailHub, execution_id: UUID, cursor: int, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    async with hub.watching(execution_id) as watch:
        while not stopping.is_set():
            changed, final = watch.changed, watch.final
            async for lines in service.lines_after(execution_id, cursor):
                cursor = lines[-1].line + 1
                yield b"id: %d\nevent: lines\ndata: %s\n\n" % (cursor, _encoder.encode(lines))
            if final:
                yield b"id: %d\nevent: end\ndata: {}\n\n" % cursor
                return
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield b": still here\n\n"
