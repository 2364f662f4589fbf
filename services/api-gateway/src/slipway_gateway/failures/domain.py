"""An attempt with the evidence of its end, and groups of equal failures."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from slipway_schemas.lifecycles import END_REASONS, AttemptPhase, EndReason


class LogLine(BaseModel):
    """One of the last lines that the run printed."""

    stream: str
    text: str


class PhaseBegin(BaseModel):
    """When a phase began, by the worker's clock."""

    phase: str
    at: datetime


class Attempt(BaseModel):
    """What happened to one try of an execution."""

    id: UUID
    number: int
    worker_id: UUID
    worker: str | None
    """Host name of the worker."""
    phase: str
    detail: str
    """What it waits for now, if anything."""
    created_at: datetime
    accepted_at: datetime | None
    user_code_at: datetime | None
    """When the first command of the step began."""
    ended_at: datetime | None
    superseded: bool
    """Another attempt took over: what this one still did was not kept."""
    exit_code: int | None
    reason: str | None
    message: str | None
    hint: str | None
    fingerprint: str | None
    phases: list[PhaseBegin]
    evidence: dict[str, Any]
    last_lines: list[LogLine]
    lines: int | None
    outputs: int | None


class Attempts(BaseModel):
    """All tries of an execution, newest first."""

    attempts: list[Attempt]


class FailedExecution(BaseModel):
    """An execution in which a failure was seen."""

    id: UUID
    counter: int
    step: str


class FailureGroup(BaseModel):
    """Failures of one kind."""

    fingerprint: str
    reason: str
    summary: str
    line: str
    """The line that says what failed, as in the newest of them."""
    count: int
    first_seen: datetime
    last_seen: datetime
    executions: list[FailedExecution] = Field(description="The newest executions in which it was seen.")


class Failures(BaseModel):
    """What failed in a project, most recent first."""

    days: int
    failures: list[FailureGroup]


def attempt_of(row: Mapping[str, Any]) -> Attempt:
    """An attempt from the row that the scheduler publishes."""
    evidence = dict(row["end_evidence"] or {})
    times = evidence.pop("phases", None) or {}
    lines = evidence.pop("last_lines", None) or []
    reason = row["end_reason"]
    return Attempt(
        id=row["id"],
        number=row["number"],
        worker_id=row["worker_id"],
        worker=row["hostname"],
        phase=row["phase"],
        detail=row["detail"],
        created_at=row["created_at"],
        accepted_at=row["accepted_at"],
        user_code_at=row["user_code_at"],
        ended_at=row["ended_at"],
        superseded=row["superseded"],
        exit_code=row["exit_code"],
        reason=reason,
        message=row["end_message"] or _meaning(reason)[0] or None,
        hint=_meaning(reason)[1] or None,
        fingerprint=row["fingerprint"],
        phases=[PhaseBegin(phase=phase.value, at=times[phase]) for phase in AttemptPhase if phase in times],
        evidence=evidence,
        last_lines=[LogLine.model_validate(line) for line in lines],
        lines=row["total_lines"],
        outputs=row["total_outputs"],
    )


def summary_of(reason: str) -> str:
    """What an end reason means; the word itself for one that this build does not know."""
    return _meaning(reason)[0] or reason


def _meaning(reason: str | None) -> tuple[str, str]:
    try:
        info = END_REASONS[EndReason(reason or "")]
    except ValueError:
        return "", ""
    return info.summary, info.hint
