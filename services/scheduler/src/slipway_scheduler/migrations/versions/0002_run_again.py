"""Which workers a queued execution avoids, why a worker takes nothing, and the history that estimates come from."""

from typing import cast

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

from slipway_scheduler.published import views

revision = "0002"
down_revision = "0001"

_WORKER_V1 = """
SELECT w.id, w.environment_id, w.hostname, w.runtime,
    jsonb_build_object('slots', w.slots, 'cpus', w.cpus, 'memory_bytes', w.memory_bytes, 'gpus', w.gpus) AS capacity,
    jsonb_build_object('slots', s.free_slots, 'cpus', s.free_cpus, 'memory_bytes', s.free_memory_bytes,
        'gpus', s.free_gpus) AS free,
    CASE WHEN NOT s.reachable OR s.last_seen_at < now() - interval '35 seconds' THEN 'unreachable'
        WHEN s.draining OR w.drain_wanted THEN 'draining' ELSE 'connected' END AS state,
    s.last_seen_at, w.agent_version,
    (SELECT count(*) FROM leases l WHERE l.worker_id = w.id) AS attempts,
    s.refusal, s.refusal_message, s.clock_skew_seconds
FROM workers w JOIN worker_states s ON s.worker_id = w.id
"""


def upgrade() -> None:
    """Add the columns and the index, and publish what others read of them."""
    op.add_column(
        "queue",
        sa.Column("avoid", postgresql.ARRAY(sa.Uuid()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("worker_states", sa.Column("refusal", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column(
        "worker_states", sa.Column("refusal_message", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("worker_states", sa.Column("clock_skew_seconds", sa.Float(precision=53), nullable=True))
    op.create_index(
        "ix_executions_history",
        "executions",
        ["environment_id", "finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL AND started_at IS NOT NULL"),
    )
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    views.replace_view(publish, "execution_v1", views.EXECUTION_V1)
    views.replace_view(publish, "worker_v1", _WORKER_V1)
