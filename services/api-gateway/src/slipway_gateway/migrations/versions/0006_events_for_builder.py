"""inference-builder follows the gateway's events: it ends the deployments of a deleted project."""

from typing import cast

from alembic import op
from alembic.operations import Operations

from slipway_db import grant_view

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let it read them."""
    grant_view(cast(Operations, op), "gateway_pub.event_v1", to=["builder"])
