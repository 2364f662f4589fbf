"""Which API token opened a browser session."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("tokens", sa.Column("opened_by_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_tokens_opened_by_id"), "tokens", "tokens", ["opened_by_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index("ix_tokens_opened_by_id", "tokens", ["opened_by_id"])
