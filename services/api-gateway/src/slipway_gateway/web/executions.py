"""Pages of executions: list, one with its live log, stop, copy."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import RootModel

from slipway_gateway.context import GatewayContext
from slipway_gateway.executions.api_v0 import passed_through
from slipway_gateway.executions.domain.record import ExecutionDetail
from slipway_gateway.executions.store import ExecutionFilter
from slipway_gateway.identity.dependencies import Context
from slipway_gateway.identity.domain import User
from slipway_gateway.projects.domain import Project
from slipway_gateway.web.access import PageForm, PageUser
from slipway_gateway.web.attempts import evidence_lines, usage_charts
from slipway_gateway.web.charts import Chart, charts_of
from slipway_gateway.web.errors import PageRoute
from slipway_gateway.web.pager import Offset, pager_of, part
from slipway_gateway.web.projects import address_of, project_at
from slipway_gateway.web.rendering import SECURITY_HEADERS, render
from slipway_gateway.web.store import PageStore
from slipway_kit.errors import NotFound, SlipwayError
from slipway_schemas.executions import Waiting
from slipway_schemas.lifecycles import END_REASONS, INCOMPLETE_STATUSES, EndReason, EndReasonInfo, ExecutionStatus

router = APIRouter(prefix="/p/{owner}/{name}", include_in_schema=False, route_class=PageRoute)

_WAITING = frozenset({ExecutionStatus.CREATED, ExecutionStatus.QUEUED})
_METADATA_SECONDS = 5.0


class _Records(RootModel[list[dict[str, Any]]]):
    """Metadata records as the log service gives them."""


@router.get("/executions/")
async def executions(
    request: Request,
    owner: str,
    name: str,
    user: PageUser,
    context: Context,
    status: str = "",
    step: str = "",
    tag: str = "",
    mine: str = "",
    offset: Offset = 0,
) -> Response:
    """Executions of a project, by status, step, tag and creator."""
    project = await project_at(context, user, owner, name)
    wanted = ExecutionFilter(
        project_id=project.id,
        statuses=_statuses(status),
        steps=(step.strip(),) if step.strip() else None,
        tags=(tag.strip(),) if tag.strip() else None,
        creator_ids=(user.id,) if mine else None,
    )
    page = await context.executions.page(user, wanted, part(offset, ordering="-counter"))
    return render(
        request,
        "executions.html",
        user=user,
        project=project,
        executions=page.items,
        page=pager_of(request, page, offset),
        filters={"status": status, "step": step, "tag": tag, "mine": mine},
        statuses=["incomplete", *(one.value for one in ExecutionStatus)],
    )


@router.get("/execution/{execution_id}/")
async def execution(
    request: Request, owner: str, name: str, execution_id: str, user: PageUser, context: Context
) -> Response:
    """One execution with all that is known of it."""
    project, detail = await _execution_at(context, user, owner, name, execution_id)
    async with context.db.read() as session:
        transitions = await PageStore(session).transitions(detail.execution.id)
    outputs = await context.data.datums.outputs_of(detail.execution.id)
    waiting, charts, usage, attempts = await asyncio.gather(
        _waiting(context, user, detail),
        _charts(context, detail),
        usage_charts(context.logs, detail.execution.id),
        context.failures.attempts(detail.execution.id),
    )
    return render(
        request,
        "execution.html",
        user=user,
        project=project,
        detail=detail,
        execution=detail.execution,
        end=_end_of(detail),
        transitions=transitions,
        outputs=outputs,
        waiting=waiting,
        charts=charts,
        usage=usage,
        attempts=[(one, evidence_lines(one)) for one in attempts],
        variables={
            key: {"value": one.value, "secret": one.secret is not None}
            for key, one in sorted(detail.spec.environment_variables.items())
        },
    )


@router.get("/execution/{execution_id}/log/")
async def raw_log(owner: str, name: str, execution_id: str, user: PageUser, context: Context) -> Response:
    """All that the run printed, as text."""
    _, detail = await _execution_at(context, user, owner, name, execution_id)
    answer = await passed_through(context.logs, f"/internal/v1/executions/{detail.execution.id}/log", {})
    # Whatever the run printed, a browser must take it for nothing but text.
    answer.headers.update(SECURITY_HEADERS)
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    return answer


@router.post("/execution/{execution_id}/stop/")
async def stop(owner: str, name: str, execution_id: str, user: PageUser, context: Context, _form: PageForm) -> Response:
    """Ask an execution to stop; a second time, kill it."""
    project, detail = await _execution_at(context, user, owner, name, execution_id)
    await context.executions.stop(user, str(detail.execution.id))
    return RedirectResponse(address_of(project, "execution", detail.execution.id), 303)


@router.post("/execution/{execution_id}/copy/")
async def copy(owner: str, name: str, execution_id: str, user: PageUser, context: Context, _form: PageForm) -> Response:
    """The same run again."""
    project, detail = await _execution_at(context, user, owner, name, execution_id)
    copied = await context.executions.copy(user, str(detail.execution.id))
    return RedirectResponse(address_of(project, "execution", copied.execution.id), 303)


async def _execution_at(
    context: GatewayContext, user: User, owner: str, name: str, execution_id: str
) -> tuple[Project, ExecutionDetail]:
    project = await project_at(context, user, owner, name)
    reference = f"{project.id}:{execution_id}" if execution_id == "latest" else execution_id
    detail = await context.executions.get(user, reference)
    if detail.execution.project_id != project.id:
        raise NotFound("This execution does not exist in this project.")
    return project, detail


def _statuses(word: str) -> tuple[str, ...] | None:
    if not word:
        return None
    return tuple(sorted(INCOMPLETE_STATUSES)) if word == "incomplete" else (word,)


def _end_of(detail: ExecutionDetail) -> EndReasonInfo | None:
    """What the end reason means; None before the end, and for one that this build does not know."""
    try:
        return END_REASONS[EndReason(detail.execution.end_reason or "")]
    except ValueError:
        return None


async def _waiting(context: GatewayContext, user: User, detail: ExecutionDetail) -> Waiting | None:
    """Why it waits; None when it does not, or when nobody can say now: the page is shown anyway."""
    if detail.execution.status not in _WAITING:
        return None
    try:
        return await context.executions.waiting(user, str(detail.execution.id))
    except SlipwayError:
        return None


async def _charts(context: GatewayContext, detail: ExecutionDetail) -> list[Chart]:
    """Charts of the metadata; none when the log service is away: the newest values are shown anyway."""
    if not detail.cumulative_metadata:
        return []
    path = f"/internal/v1/executions/{detail.execution.id}/metadata"
    try:
        records = await context.logs.get(path, result=_Records, timeout=_METADATA_SECONDS)
    except SlipwayError:
        return []
    return charts_of(records.root)
