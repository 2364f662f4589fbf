"""Keys of test calls, which nobody is shown."""

import sqlalchemy as sa
from alembic import op

from slipway_builder.published import views

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column and leave them out of what is published."""
    op.add_column("keys", sa.Column("hidden", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(f"CREATE OR REPLACE VIEW builder_pub.key_v1 AS {views.SHOWN_KEYS}")


def downgrade() -> None:
    """Show them again."""
    op.execute(f"CREATE OR REPLACE VIEW builder_pub.key_v1 AS {views.DEFINITIONS['key_v1']}")
    op.drop_column("keys", "hidden")
