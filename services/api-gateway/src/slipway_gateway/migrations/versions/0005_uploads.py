"""One upload per version of an output, and when each store was swept last."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column with its index, and the table."""
    op.add_column("uploads", sa.Column("version", sa.Text(), server_default=sa.text("''"), nullable=False))
    # Of two unfinished uploads of one file only the newest was ever resumed.
    op.execute(
        "UPDATE uploads u SET version = CAST(id AS text) WHERE EXISTS (SELECT FROM uploads n"
        " WHERE n.attempt_id = u.attempt_id AND n.name = u.name AND n.size = u.size AND n.id > u.id)"
    )
    op.drop_index("ix_uploads_attempt_id", "uploads")
    op.create_index(
        "uq_uploads_attempt_id_name_size_version", "uploads", ["attempt_id", "name", "size", "version"], unique=True
    )
    op.create_table(
        "store_sweeps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_sweeps")),
    )
