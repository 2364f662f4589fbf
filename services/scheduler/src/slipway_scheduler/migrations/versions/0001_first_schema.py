"""First schema: environments, workers, executions, attempts, leases, and what is published of them."""

from typing import cast

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

from slipway_db import create_consumer, create_outbox
from slipway_scheduler.published import views

revision = "0001"
down_revision = None

_ATTEMPT_V1 = """
SELECT id, execution_id, number, worker_id, environment_id, phase, superseded, created_at, accepted_at, user_code_at,
    ended_at, exit_code, end_reason, total_lines, total_outputs, total_metadata
FROM attempts
"""

_WORKER_V1 = """
SELECT w.id, w.environment_id, w.hostname, w.runtime,
    jsonb_build_object('slots', w.slots, 'cpus', w.cpus, 'memory_bytes', w.memory_bytes, 'gpus', w.gpus) AS capacity,
    jsonb_build_object('slots', s.free_slots, 'cpus', s.free_cpus, 'memory_bytes', s.free_memory_bytes,
        'gpus', s.free_gpus) AS free,
    CASE WHEN NOT s.reachable OR s.last_seen_at < now() - interval '35 seconds' THEN 'unreachable'
        WHEN s.draining OR w.drain_wanted THEN 'draining' ELSE 'connected' END AS state,
    s.last_seen_at, w.agent_version
FROM workers w JOIN worker_states s ON s.worker_id = w.id
"""


def upgrade() -> None:
    """Create everything."""
    _environments()
    _workers()
    _executions()
    _attempts()
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    create_outbox(publish, "scheduler", readers=["gateway", "logs"])
    create_consumer(publish, "scheduler", publishers=["gateway"])
    views.create_view(publish, "execution_v1", views.EXECUTION_V1)
    views.create_view(publish, "attempt_v1", _ATTEMPT_V1)
    views.create_view(publish, "transition_v1", views.TRANSITION_V1)
    views.create_view(publish, "environment_v1", views.ENVIRONMENT_V1)
    views.create_view(publish, "worker_v1", _WORKER_V1)


def _environments() -> None:
    op.create_table(
        "environments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("gpu_spec", sa.Text(), nullable=False),
        sa.Column("per_hour_price_usd", sa.Numeric(precision=12, scale=4), nullable=False),
        sa.Column("per_user_queue_quota", sa.Integer(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
    )
    op.create_index(
        "uq_environments_slug", "environments", ["slug"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_table(
        "group_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_group_tokens_environment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_group_tokens_token_hash")),
    )
    op.create_index(op.f("ix_group_tokens_environment_id"), "group_tokens", ["environment_id"], unique=False)
    op.create_table(
        "project_counters",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_counters")),
    )
    op.create_table(
        "lease_clock",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_lease_clock_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease_clock")),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("runtime_version", sa.Text(), nullable=False),
        sa.Column("agent_version", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.Float(precision=53), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("gpu_list", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("addresses", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("drain_wanted", sa.Boolean(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_workers_environment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("environment_id", "machine_id", name=op.f("uq_workers_environment_id_machine_id")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_workers_token_hash")),
    )
    op.create_table(
        "worker_states",
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reachable", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("free_slots", sa.Integer(), nullable=False),
        sa.Column("free_cpus", sa.Float(precision=53), nullable=False),
        sa.Column("free_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("free_gpus", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_worker_states_worker_id")),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_worker_states")),
        postgresql_with={"fillfactor": "50"},
    )


def _executions() -> None:
    op.create_table(
        "executions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("project_name", sa.Text(), nullable=False),
        sa.Column("counter", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("environment_slug", sa.Text(), nullable=False),
        sa.Column("environment_name", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("creator_id", sa.Integer(), nullable=False),
        sa.Column("creator_name", sa.Text(), nullable=False),
        sa.Column("creator_email", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("commit_identifier", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("autorestart", sa.Boolean(), nullable=False),
        sa.Column("code_missing", sa.Boolean(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("early_failures", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("stop_level", sa.Integer(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("stop_message", sa.Text(), nullable=False),
        sa.Column("status_detail", sa.Text(), nullable=False),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("end_message", sa.Text(), nullable=True),
        sa.Column("end_evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name=op.f("fk_executions_environment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_executions_created",
        "executions",
        ["project_id", "commit_identifier"],
        unique=False,
        postgresql_where=sa.text("status = 'created'"),
    )
    op.create_index(
        "ix_executions_project_id_created_at", "executions", ["project_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_executions_unfinished_project",
        "executions",
        ["project_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('created', 'queued', 'started', 'stopping')"),
    )
    op.create_index(
        "ix_executions_unfinished_user",
        "executions",
        ["environment_id", "creator_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('created', 'queued', 'started', 'stopping')"),
    )
    op.create_index("uq_executions_project_id_counter", "executions", ["project_id", "counter"], unique=True)
    op.create_table(
        "queue",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cpus", sa.Float(precision=53), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_queue_execution_id")),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_queue")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_queue_order", "queue", ["environment_id", "priority", "owner_id", "queued_at", "execution_id"], unique=False
    )
    op.create_table(
        "transitions",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor_id", sa.Integer(), nullable=True),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_transitions_execution_id")),
        sa.PrimaryKeyConstraint("execution_id", "position", name=op.f("pk_transitions")),
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_code_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("total_lines", sa.BigInteger(), nullable=True),
        sa.Column("total_outputs", sa.BigInteger(), nullable=True),
        sa.Column("total_metadata", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_attempts_execution_id")),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name=op.f("fk_attempts_worker_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("ix_attempts_recent", "attempts", ["environment_id", "created_at", "owner_id"], unique=False)
    op.create_index("uq_attempts_execution_id_number", "attempts", ["execution_id", "number"], unique=True)
    op.create_table(
        "leases",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("environment_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("unreachable_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_level", sa.SmallInteger(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("cpus", sa.Float(precision=53), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_leases_attempt_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_leases")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(op.f("ix_leases_worker_id"), "leases", ["worker_id"], unique=False)
