"""Series of what runs use."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "usage_blocks",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("samples", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", "block", name="pk_usage_blocks"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("usage_blocks")
