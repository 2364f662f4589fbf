"""Clean-ups of images, digests of base images, and endpoints whose target is away."""

from typing import cast

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations

from slipway_builder.published import views

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table and the column; publish the problem of a target as that of its endpoints."""
    op.create_table(
        "clean_ups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clean_ups")),
    )
    op.add_column("images", sa.Column("base_digest", sa.Text(), nullable=False, server_default=""))
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    publish.execute(f"CREATE OR REPLACE VIEW builder_pub.endpoint_v1 AS {views.DEFINITIONS['endpoint_v1']}")


def downgrade() -> None:
    """Drop both; the view keeps its columns."""
    op.drop_column("images", "base_digest")
    op.drop_table("clean_ups")
