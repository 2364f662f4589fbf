"""`executions/` of the compatible API (contract 1.3)."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from slipway_gateway.data.view_v0 import datum_v0
from slipway_gateway.executions.domain.record import ExecutionDetail
from slipway_gateway.executions.domain.request import RunRequest
from slipway_gateway.executions.store import ExecutionFilter
from slipway_gateway.executions.view_v0 import execution_detail_v0, execution_v0
from slipway_gateway.identity.dependencies import Context, CurrentUser
from slipway_gateway.v0.bodies import body_schema
from slipway_gateway.v0.envelope import List, words
from slipway_gateway.v0.queries import flag, uuid_or_none
from slipway_kit.body import json_or_form
from slipway_kit.http import Neighbour
from slipway_schemas.executions import ExecutionPatch, Waiting
from slipway_schemas.lifecycles import INCOMPLETE_STATUSES

router = APIRouter(prefix="/executions", tags=["executions"])
router_v1 = APIRouter(prefix="/executions", tags=["executions"])

_LOG_SECONDS = 120.0


class ExecutionUpdate(BaseModel):
    """What people may change of an execution. What is not given stays."""

    model_config = ConfigDict(extra="ignore")

    title: str | None = Field(default=None, max_length=255)
    tags: list[str] | None = None
    priority: int | None = Field(default=None, ge=-1000, le=1000)


class ExecutionTags(BaseModel):
    """Tags to add."""

    tags: list[str]


class StopBody(BaseModel):
    """How to stop. Without a body: gracefully, and at the second request at once."""

    model_config = ConfigDict(extra="ignore")

    hard: bool = False


@router.get("/")
async def list_executions(
    query: List,
    user: CurrentUser,
    context: Context,
    project: str | None = None,
    status: Annotated[list[str] | None, Query(description="`incomplete` means not ended.")] = None,
    counter: Annotated[list[str] | None, Query()] = None,
    creator: Annotated[list[str] | None, Query()] = None,
    tags: Annotated[list[str] | None, Query()] = None,
    step: Annotated[list[str] | None, Query()] = None,
    commit: str | None = None,
    environment: str | None = None,
    deleted: str | None = None,
) -> Response:
    """Executions of the projects that the caller may see."""
    wanted = ExecutionFilter(
        project_id=uuid_or_none("project", project),
        statuses=_statuses(status),
        counters=_numbers(counter),
        creator_ids=_numbers(creator),
        tags=None if not tags else tuple(one.strip() for value in tags for one in value.split(",") if one.strip()),
        steps=tuple(step) if step else None,
        commit=commit or None,
        environment=environment or None,
        deleted=flag("deleted", deleted, default=False),
    )
    page = await context.executions.page(user, wanted, query.page)
    return query.answer(page, [execution_v0(item, context.public_origin) for item in page.items])


@router.post("/", status_code=201, openapi_extra=body_schema(RunRequest))
async def create_execution(
    user: CurrentUser,
    context: Context,
    body: Annotated[RunRequest, Depends(json_or_form(RunRequest))],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Run a step of a commit. What is left out comes from the step, the environment or the project."""
    return await _shown(context, await context.executions.create(user, body, idempotency_key), status=201)


@router.get("/{reference}/")
async def get_execution(reference: str, user: CurrentUser, context: Context, exclude: str | None = None) -> Response:
    """One execution by id, `<project id>:<counter>` or `<project id>:latest`."""
    return await _shown(context, await context.executions.get(user, reference), exclude=words(exclude))


@router.put("/{reference}/", openapi_extra=body_schema(ExecutionUpdate))
@router.patch("/{reference}/", openapi_extra=body_schema(ExecutionUpdate))
async def update_execution(
    reference: str,
    user: CurrentUser,
    context: Context,
    body: Annotated[ExecutionUpdate, Depends(json_or_form(ExecutionUpdate))],
) -> Response:
    """Change title, tags or priority."""
    tags = None if body.tags is None else tuple(body.tags)
    patch = ExecutionPatch(title=body.title, tags=tags, priority=body.priority)
    return await _shown(context, await context.executions.change(user, reference, patch))


@router.delete("/{reference}/", status_code=204, response_class=Response)
async def delete_execution(reference: str, user: CurrentUser, context: Context) -> None:
    """Delete an execution that has ended."""
    await context.executions.delete(user, reference)


@router.post("/{reference}/stop/", openapi_extra=body_schema(StopBody))
async def stop_execution(
    reference: str, user: CurrentUser, context: Context, body: Annotated[StopBody, Depends(json_or_form(StopBody))]
) -> dict[str, Any]:
    """Ask an execution to stop; asked twice, it is killed; asked while only its outputs are left, they are given up."""
    answer = await context.executions.stop(user, reference, hard=body.hard)
    messages = {0: f"Already {answer.status.value}", 1: "OK", 2: "OK, killing it now", 3: "OK, giving its outputs up"}
    return {"message": messages[answer.level], "status": answer.status.value}


@router.post("/{reference}/copy/", status_code=201)
async def copy_execution(reference: str, user: CurrentUser, context: Context) -> Response:
    """The same run again."""
    return await _shown(context, await context.executions.copy(user, reference), status=201)


@router.post("/{reference}/tags/", openapi_extra=body_schema(ExecutionTags))
async def add_tags(
    reference: str,
    user: CurrentUser,
    context: Context,
    body: Annotated[ExecutionTags, Depends(json_or_form(ExecutionTags))],
) -> Response:
    """Add tags."""
    patch = ExecutionPatch(add_tags=tuple(body.tags))
    return await _shown(context, await context.executions.change(user, reference, patch))


@router.get("/{reference}/outputs/")
async def list_outputs(
    reference: str, user: CurrentUser, context: Context, include: str | None = None
) -> list[dict[str, Any]]:
    """All outputs as a bare list; `include=download_url` adds signed URLs."""
    detail = await context.executions.get(user, reference)
    outputs = await context.data.datums.outputs_of(detail.execution.id)
    with_url = "download_url" in words(include)
    shown = []
    for datum in outputs:
        item = datum_v0(datum).model_dump(mode="json")
        if with_url:
            item["download_url"] = None if datum.purged_at else await context.data.datums.signed_url(datum)
        shown.append(item)
    return shown


@router.get("/{reference}/events/")
async def get_events(
    reference: str, request: Request, user: CurrentUser, context: Context, limit: int | None = None
) -> Response:
    """Log lines: the last 2,000, all with `limit=0`, else the last `limit`."""
    detail = await context.executions.get(user, reference)
    streams = request.query_params.getlist("streams")
    params: dict[str, Any] = {} if limit is None else {"limit": limit}
    if streams:
        params["streams"] = streams
    return await passed_through(context.logs, f"/internal/v1/executions/{detail.execution.id}/events", params)


@router.get("/{reference}/status-events/")
async def get_status_events(reference: str, user: CurrentUser, context: Context, limit: int | None = None) -> Response:
    """What the platform says about the run: the first `limit` lines."""
    detail = await context.executions.get(user, reference)
    params = {} if limit is None else {"limit": limit}
    return await passed_through(context.logs, f"/internal/v1/executions/{detail.execution.id}/status-events", params)


@router.get("/{reference}/log/", response_class=PlainTextResponse)
async def get_log(reference: str, user: CurrentUser, context: Context) -> Response:
    """What the run printed on stdout and stderr, byte for byte."""
    detail = await context.executions.get(user, reference)
    return await passed_through(context.logs, f"/internal/v1/executions/{detail.execution.id}/log", {})


@router.get("/{reference}/metadata/")
async def get_metadata(reference: str, user: CurrentUser, context: Context) -> Response:
    """All metadata records."""
    detail = await context.executions.get(user, reference)
    return await passed_through(context.logs, f"/internal/v1/executions/{detail.execution.id}/metadata", {})


@router_v1.get("/{reference}/waiting")
async def get_waiting(reference: str, user: CurrentUser, context: Context) -> Waiting:
    """Why an execution waits, and where it stands in its queue."""
    return await context.executions.waiting(user, reference)


async def passed_through(neighbour: Neighbour, path: str, params: Mapping[str, Any]) -> Response:
    """The neighbour's bytes as they come. An error before the first byte is raised as it is."""
    stream = neighbour.stream("GET", path, params=dict(params), timeout=_LOG_SECONDS)
    answer = await stream.__aenter__()

    async def content() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content:
                yield chunk
        finally:
            await stream.__aexit__(None, None, None)

    kind = answer.headers.get("Content-Type", "application/json")
    return StreamingResponse(content(), status_code=answer.status, media_type=kind)


async def _shown(
    context: Context, detail: ExecutionDetail, *, status: int = 200, exclude: frozenset[str] = frozenset()
) -> Response:
    outputs = () if "outputs" in exclude else await context.data.datums.outputs_of(detail.execution.id)
    shown = execution_detail_v0(detail, outputs, context.public_origin)
    return JSONResponse({name: one for name, one in shown.items() if name not in exclude}, status_code=status)


def _statuses(given: list[str] | None) -> tuple[str, ...] | None:
    if not given:
        return None
    words_ = [one.strip().lower() for value in given for one in value.split(",") if one.strip()]
    return tuple(
        status for word in words_ for status in (sorted(INCOMPLETE_STATUSES) if word == "incomplete" else [word])
    )


def _numbers(given: list[str] | None) -> tuple[int, ...] | None:
    """Those of the values that are numbers; clients send placeholders too, which match nothing."""
    if not given:
        return None
    return tuple(int(one) for one in given if one.isascii() and one.isdecimal() and len(one) < 10)
