"""What a worker says of its attempt is part of the execution's status detail."""

from typing import cast

from alembic import op
from alembic.operations import Operations

from slipway_scheduler.published import views

revision = "0002_delivery"
down_revision = "0001"


def upgrade() -> None:
    """Publish it."""
    publish = cast(Operations, op)  # the module stands for the operations of the running migration
    views.replace_view(publish, "execution_v1", views.EXECUTION_V1)
