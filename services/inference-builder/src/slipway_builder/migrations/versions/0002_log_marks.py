"""How far the logs of endpoints are kept, and whose they are."""

from typing import cast

import sqlalchemy as sa
from alembic import op
from alembic.operations import Operations

from slipway_builder.published import views

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables and the view."""
    op.create_table(
        "log_followers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_followers")),
    )
    op.create_table(
        "log_marks",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("durable", sa.Boolean(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at_lines", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "replica", "durable", name=op.f("pk_log_marks")),
    )
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    views.create_view(publish, "endpoint_access_v1", views.ENDPOINT_ACCESS, to="logs")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW builder_pub.endpoint_access_v1")
    op.drop_table("log_marks")
    op.drop_table("log_followers")
