"""Streams, segments and metadata, with their published views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from slipway_db.migrations import grant_view
from slipway_db.outbox import create_consumer

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and views."""
    timestamp = sa.DateTime(timezone=True)
    op.create_table(
        "streams",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("durable_lines", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("durable_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_time_us", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", timestamp, server_default=sa.func.now(), nullable=False),
        sa.Column("purge_at", timestamp, nullable=True),
        sa.Column("purged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_streams"),
    )
    op.create_index("ix_streams_execution_id", "streams", ["execution_id"])
    op.create_index(
        "ix_streams_purge_at", "streams", ["purge_at"], postgresql_where=sa.text("purge_at IS NOT NULL AND NOT purged")
    )
    op.create_table(
        "segments",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("first_line", sa.BigInteger(), nullable=False),
        sa.Column("end_line", sa.BigInteger(), nullable=False),
        sa.Column("status_lines", sa.BigInteger(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=True),
        sa.Column("inline", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["streams.attempt_id"], name="fk_segments_attempt_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", "first_line", name="pk_segments"),
    )
    op.create_table(
        "metadata_latest",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("values", postgresql.JSONB(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name="pk_metadata_latest"),
    )
    op.create_table(
        "metadata_blocks",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("records", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "first", name="pk_metadata_blocks"),
    )
    create_consumer(op, "logs", publishers=["scheduler"])
    op.execute(
        'CREATE VIEW logs_pub.metadata_latest_v1 AS SELECT execution_id, attempt_id, "values", records'
        " FROM metadata_latest"
    )
    op.execute(
        "CREATE VIEW logs_pub.log_total_v1 AS SELECT execution_id, attempt_id, durable_lines AS lines,"
        " durable_bytes AS bytes FROM streams"
    )
    grant_view(op, "logs_pub.metadata_latest_v1", to=["gateway"])
    grant_view(op, "logs_pub.log_total_v1", to=["gateway"])


def downgrade() -> None:
    """Drop everything."""
    for view in ("cursor_v1", "log_total_v1", "metadata_latest_v1"):
        op.execute(f"DROP VIEW logs_pub.{view}")
    for table in ("dead_letter", "cursors", "metadata_blocks", "metadata_latest", "segments", "streams"):
        op.drop_table(table)
