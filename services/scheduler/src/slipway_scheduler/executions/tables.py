"""Tables of executions. `executions` is wide and rarely written; what changes often lies in narrow tables."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Float, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db import CreatedAt, UuidKey
from slipway_scheduler.database import BIG, SchedulerBase

UNFINISHED = "status IN ('created', 'queued', 'started', 'stopping')"


class ExecutionRow(SchedulerBase):
    """A user's run of one step of a commit."""

    __tablename__ = "executions"
    __table_args__ = (
        Index("uq_executions_project_id_counter", "project_id", "counter", unique=True),
        Index("ix_executions_project_id_created_at", "project_id", "created_at", "id"),
        Index("ix_executions_unfinished_user", "environment_id", "creator_id", postgresql_where=text(UNFINISHED)),
        Index("ix_executions_unfinished_project", "project_id", postgresql_where=text(UNFINISHED)),
        Index(
            "ix_executions_created",
            "project_id",
            "commit_identifier",
            postgresql_where=text("status = 'created'"),
        ),
        Index(
            "ix_executions_history",
            "environment_id",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND started_at IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )

    id: Mapped[UuidKey]
    project_id: Mapped[UUID]
    project_name: Mapped[str]
    counter: Mapped[int]
    status: Mapped[str]
    environment_id: Mapped[UUID] = mapped_column(ForeignKey("environments.id"))
    environment_slug: Mapped[str]
    environment_name: Mapped[str]
    owner_id: Mapped[int]
    creator_id: Mapped[int]
    creator_name: Mapped[str]
    creator_email: Mapped[str]
    title: Mapped[str | None]
    tags: Mapped[list[str]]
    priority: Mapped[int]
    commit_identifier: Mapped[str]
    step: Mapped[str]
    image: Mapped[str]
    autorestart: Mapped[bool]
    code_missing: Mapped[bool]
    spec: Mapped[dict[str, Any]]
    attempt_id: Mapped[UUID | None]
    attempt_count: Mapped[int]
    early_failures: Mapped[int]
    restarts: Mapped[int]
    stop_level: Mapped[int]
    stop_reason: Mapped[str | None]
    stop_message: Mapped[str]
    status_detail: Mapped[str]
    end_reason: Mapped[str | None]
    end_message: Mapped[str | None]
    end_evidence: Mapped[dict[str, Any] | None]
    exit_code: Mapped[int | None] = mapped_column(BIG)
    created_at: Mapped[CreatedAt]
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]


class QueueRow(SchedulerBase):
    """A queued execution that has no attempt yet: all that dispatch has to read of it.

    The index makes the head of each (environment, priority, owner) one descent of the tree, so that 50,000 rows of
    one owner cost dispatch nothing.
    """

    __tablename__ = "queue"
    __table_args__ = (
        Index("ix_queue_order", "environment_id", "priority", "owner_id", "queued_at", "execution_id"),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    execution_id: Mapped[UUID] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    environment_id: Mapped[UUID]
    priority: Mapped[int]
    owner_id: Mapped[int]
    queued_at: Mapped[datetime]
    cpus: Mapped[float] = mapped_column(Float(53))
    memory_bytes: Mapped[int] = mapped_column(BIG)
    gpus: Mapped[int]
    avoid: Mapped[list[UUID]] = mapped_column(server_default=text("'{}'"))
    """Workers on which earlier attempts of it failed, oldest first."""


class AttemptRow(SchedulerBase):
    """One try of an execution on one worker."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index("uq_attempts_execution_id_number", "execution_id", "number", unique=True),
        Index("ix_attempts_recent", "environment_id", "created_at", "owner_id"),
        {"postgresql_with": {"fillfactor": "80"}},
    )

    id: Mapped[UuidKey]
    execution_id: Mapped[UUID] = mapped_column(ForeignKey("executions.id"))
    number: Mapped[int]
    worker_id: Mapped[UUID] = mapped_column(ForeignKey("workers.id"))
    environment_id: Mapped[UUID]
    owner_id: Mapped[int]
    phase: Mapped[str]
    detail: Mapped[str]
    superseded: Mapped[bool]
    last_seq: Mapped[int] = mapped_column(BIG)
    created_at: Mapped[CreatedAt]
    accepted_at: Mapped[datetime | None]
    user_code_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None] = mapped_column(BIG)
    end_reason: Mapped[str | None]
    end_message: Mapped[str | None]
    end_evidence: Mapped[dict[str, Any] | None]
    fingerprint: Mapped[str | None]
    """Equal for failures of the same kind; None for attempts that did not fail."""
    failure_line: Mapped[str | None]
    total_lines: Mapped[int | None] = mapped_column(BIG)
    total_outputs: Mapped[int | None] = mapped_column(BIG)
    total_metadata: Mapped[int | None] = mapped_column(BIG)


class TransitionRow(SchedulerBase):
    """One step of an execution's life."""

    __tablename__ = "transitions"

    execution_id: Mapped[UUID] = mapped_column(ForeignKey("executions.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger(), Identity(always=True), primary_key=True)
    before: Mapped[str | None]
    after: Mapped[str]
    reason: Mapped[str | None]
    message: Mapped[str]
    at: Mapped[CreatedAt]
    actor_id: Mapped[int | None]
    attempt_id: Mapped[UUID | None]


class ProjectCounterRow(SchedulerBase):
    """The number of the newest execution of a project."""

    __tablename__ = "project_counters"

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    value: Mapped[int]
