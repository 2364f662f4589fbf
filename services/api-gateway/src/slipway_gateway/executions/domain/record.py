"""An execution as the scheduler publishes it, with what the gateway knows of its project and commit."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from slipway_schemas.executions import ExecutionSpec, InputSpec
from slipway_schemas.lifecycles import ExecutionStatus


@dataclass(frozen=True)
class Execution:
    """What lists show. `duration_seconds` is None before the start and still grows while it runs."""

    id: UUID
    project_id: UUID
    project_name: str
    project_slug: str
    owner_slug: str
    counter: int
    status: ExecutionStatus
    status_detail: str | None
    step: str
    title: str | None
    environment_id: UUID
    environment_slug: str
    environment_name: str
    commit_identifier: str
    commit_adhoc: bool | None
    commit_ref: str | None
    image: str
    priority: int
    creator_id: int
    creator_name: str
    owner_id: int
    tags: tuple[str, ...]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    duration_seconds: float | None
    end_reason: str | None
    end_message: str | None
    exit_code: int | None
    attempt_count: int
    phase: str | None
    autorestart: bool
    deleted_at: datetime | None
    parameters: dict[str, Any]
    price_per_hour: float


@dataclass(frozen=True)
class ExecutionDetail:
    """One execution with all that defines it and what came of it."""

    execution: Execution
    spec: ExecutionSpec
    cumulative_metadata: dict[str, Any] | None
    end_evidence: dict[str, Any] | None
    queued_at: datetime | None
    inputs: tuple[InputSpec, ...]
    """Those of the spec, and `_restart` once it is run again after an interruption."""
