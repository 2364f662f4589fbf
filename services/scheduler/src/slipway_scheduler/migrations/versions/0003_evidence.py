"""Why each attempt ended, with its evidence and fingerprint; room on the workers' disks."""

from typing import cast

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

from slipway_scheduler.published import views

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and publish them."""
    op.add_column("attempts", sa.Column("end_message", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("end_evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("attempts", sa.Column("fingerprint", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("failure_line", sa.Text(), nullable=True))
    op.add_column("worker_states", sa.Column("disk_free_bytes", sa.BigInteger(), nullable=True))
    op.add_column("worker_states", sa.Column("disk_total_bytes", sa.BigInteger(), nullable=True))
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    views.replace_view(publish, "attempt_v1", views.ATTEMPT_V1)
    views.replace_view(publish, "worker_v1", views.WORKER_V1)
