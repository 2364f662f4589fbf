"""Logs of the replicas of endpoints, beside those of attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TOTAL = """CREATE OR REPLACE VIEW logs_pub.log_total_v1 AS SELECT execution_id, attempt_id, durable_lines AS lines,
 durable_bytes AS bytes FROM streams"""


def upgrade() -> None:
    """Add the column; what is published of executions does not change."""
    op.add_column("streams", sa.Column("replica", sa.Text(), nullable=True))
    op.execute(f"{_TOTAL} WHERE replica IS NULL")


def downgrade() -> None:
    """Drop it, with the logs that it tells from others."""
    op.execute(_TOTAL)
    op.execute("DELETE FROM streams WHERE replica IS NOT NULL")
    op.drop_column("streams", "replica")
