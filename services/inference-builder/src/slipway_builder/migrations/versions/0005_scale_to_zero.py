"""When an endpoint was first ready: from then on it may sleep, if it scales to zero."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; what serves now has proven itself."""
    op.add_column("endpoints", sa.Column("proven_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE endpoints SET proven_at = ready_at")
