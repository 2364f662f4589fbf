"""SQL of executions: the scheduler's published view, joined with what is the gateway's, limited to the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    Float,
    Integer,
    Numeric,
    RowMapping,
    Select,
    Text,
    Uuid,
    and_,
    cast,
    column,
    false,
    func,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_gateway.code.tables import CommitRow
from slipway_gateway.executions.domain.record import Execution, ExecutionDetail
from slipway_gateway.executions.restart import RestartStore
from slipway_gateway.identity.tables import AccountRow
from slipway_gateway.paging import Page, PageRequest, fetch_page
from slipway_gateway.projects.store import visible_project_ids
from slipway_gateway.projects.tables import ProjectRow
from slipway_schemas.executions import ExecutionSpec
from slipway_schemas.lifecycles import ExecutionStatus

_TIME = DateTime(timezone=True)
EXECUTION = table(
    "execution_v1",
    column("id", Uuid()),
    column("project_id", Uuid()),
    column("counter", Integer()),
    column("status", Text()),
    column("status_detail", Text()),
    column("step", Text()),
    column("title", Text()),
    column("environment_id", Uuid()),
    column("environment_slug", Text()),
    column("environment_name", Text()),
    column("commit_identifier", Text()),
    column("image", Text()),
    column("priority", Integer()),
    column("creator_id", Integer()),
    column("creator_name", Text()),
    column("owner_id", Integer()),
    column("tags", ARRAY(Text())),
    column("created_at", _TIME),
    column("queued_at", _TIME),
    column("started_at", _TIME),
    column("finished_at", _TIME),
    column("updated_at", _TIME),
    column("duration_seconds", Float()),
    column("end_reason", Text()),
    column("end_message", Text()),
    column("end_evidence", JSONB()),
    column("exit_code", Integer()),
    column("attempt_count", Integer()),
    column("phase", Text()),
    column("autorestart"),
    column("deleted_at", _TIME),
    column("spec", JSONB()),
    schema="scheduler_pub",
)
_METADATA = table("metadata_latest_v1", column("execution_id", Uuid()), column("values", JSONB()), schema="logs_pub")
_ENVIRONMENT = table(
    "environment_v1", column("id", Uuid()), column("per_hour_price_usd", Numeric()), schema="scheduler_pub"
)
_HEAVY = frozenset({"spec", "end_evidence", "queued_at"})
_SHOWN = [one for one in EXECUTION.c if one.name not in _HEAVY]


@dataclass(frozen=True)
class ExecutionFilter:
    """Which executions a list shows. None = any; an empty tuple = none at all."""

    project_id: UUID | None = None
    statuses: tuple[str, ...] | None = None
    counters: tuple[int, ...] | None = None
    creator_ids: tuple[int, ...] | None = None
    tags: tuple[str, ...] | None = None
    steps: tuple[str, ...] | None = None
    commit: str | None = None
    environment: str | None = None
    deleted: bool | None = False


class ExecutionStore:
    """Reads executions in one unit of work; only the scheduler writes them."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, user_id: int, wanted: ExecutionFilter, request: PageRequest) -> Page[Execution]:
        """Executions of projects that the user may see, in one statement."""
        statement = _limited(_visible(user_id), wanted)
        page = await fetch_page(
            self._session,
            statement,
            request,
            orderings={
                "counter": EXECUTION.c.counter,
                "ctime": EXECUTION.c.created_at,
                "id": EXECUTION.c.id,
                "priority": EXECUTION.c.priority,
                "status": EXECUTION.c.status,
                "step": EXECUTION.c.step,
            },
            default="-ctime",
            key=EXECUTION.c.id,
        )
        return page.of([_execution(row._mapping) for row in page.items])

    async def detail(
        self, user_id: int, *, execution_id: UUID | None = None, place: tuple[UUID, int | None] | None = None
    ) -> ExecutionDetail | None:
        """One execution by id, or by its project and counter (None is the newest)."""
        statement = _visible(user_id).add_columns(
            EXECUTION.c.spec, EXECUTION.c.end_evidence, EXECUTION.c.queued_at, _METADATA.c["values"].label("metadata")
        )
        statement = statement.outerjoin(_METADATA, _METADATA.c.execution_id == EXECUTION.c.id)
        statement = statement.where(EXECUTION.c.deleted_at.is_(None))
        if execution_id is not None:
            statement = statement.where(EXECUTION.c.id == execution_id)
        elif place is not None:
            statement = statement.where(EXECUTION.c.project_id == place[0])
            if place[1] is not None:
                statement = statement.where(EXECUTION.c.counter == place[1])
        statement = statement.order_by(EXECUTION.c.counter.desc()).limit(1)
        row = (await self._session.execute(statement)).mappings().one_or_none()
        if row is None:
            return None
        execution, spec = _execution(row), ExecutionSpec.model_validate(row["spec"])
        number = execution.attempt_count + (execution.status is ExecutionStatus.QUEUED)
        return ExecutionDetail(
            execution=execution,
            spec=spec,
            cumulative_metadata=row["metadata"],
            end_evidence=row["end_evidence"],
            queued_at=row["queued_at"],
            inputs=await RestartStore(self._session).with_restart(spec, execution.id, number),
        )


def _visible(user_id: int) -> Select[Any]:
    return (
        select(
            *_SHOWN,
            EXECUTION.c.spec["parameters"].label("parameters"),
            ProjectRow.name.label("project_name"),
            ProjectRow.slug.label("project_slug"),
            AccountRow.slug.label("owner_slug"),
            CommitRow.adhoc.label("commit_adhoc"),
            CommitRow.ref.label("commit_ref"),
            _ENVIRONMENT.c.per_hour_price_usd.label("price_per_hour"),
        )
        .select_from(EXECUTION)
        .join(ProjectRow, ProjectRow.id == EXECUTION.c.project_id)
        .join(AccountRow, AccountRow.id == ProjectRow.owner_id)
        .outerjoin(
            CommitRow,
            and_(CommitRow.project_id == EXECUTION.c.project_id, CommitRow.identifier == EXECUTION.c.commit_identifier),
        )
        .outerjoin(_ENVIRONMENT, _ENVIRONMENT.c.id == EXECUTION.c.environment_id)
        .where(EXECUTION.c.project_id.in_(visible_project_ids(user_id)))
    )


def _limited(statement: Select[Any], wanted: ExecutionFilter) -> Select[Any]:
    columns = EXECUTION.c
    if wanted.project_id is not None:
        statement = statement.where(columns.project_id == wanted.project_id)
    values: Sequence[tuple[Any, tuple[Any, ...] | None]] = (
        (columns.status, wanted.statuses),
        (columns.counter, wanted.counters),
        (columns.creator_id, wanted.creator_ids),
        (columns.step, wanted.steps),
    )
    for one, allowed in values:
        if allowed is not None:
            statement = statement.where(one.in_(allowed) if allowed else false())
    if wanted.tags is not None:
        statement = statement.where(columns.tags.overlap(cast(list(wanted.tags), ARRAY(Text))))
    if wanted.commit is not None:
        statement = statement.where(columns.commit_identifier == wanted.commit)
    if wanted.environment is not None:
        reference = wanted.environment.strip().lower()
        statement = statement.where(
            (func.lower(columns.environment_slug) == reference) | (cast(columns.environment_id, Text) == reference)
        )
    if wanted.deleted is not None:
        statement = statement.where(columns.deleted_at.is_not(None) == wanted.deleted)
    return statement


def _execution(row: RowMapping) -> Execution:
    return Execution(
        id=row["id"],
        project_id=row["project_id"],
        project_name=row["project_name"],
        project_slug=row["project_slug"],
        owner_slug=row["owner_slug"],
        counter=row["counter"],
        status=ExecutionStatus(row["status"]),
        status_detail=row["status_detail"],
        step=row["step"],
        title=row["title"],
        environment_id=row["environment_id"],
        environment_slug=row["environment_slug"],
        environment_name=row["environment_name"],
        commit_identifier=row["commit_identifier"],
        commit_adhoc=row["commit_adhoc"],
        commit_ref=row["commit_ref"],
        image=row["image"],
        priority=row["priority"],
        creator_id=row["creator_id"],
        creator_name=row["creator_name"],
        owner_id=row["owner_id"],
        tags=tuple(row["tags"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
        duration_seconds=row["duration_seconds"],
        end_reason=row["end_reason"],
        end_message=row["end_message"],
        exit_code=row["exit_code"],
        attempt_count=row["attempt_count"],
        phase=row["phase"],
        autorestart=bool(row["autorestart"]),
        deleted_at=row["deleted_at"],
        parameters=row["parameters"] or {},
        price_per_hour=float(row["price_per_hour"] or 0),
    )
