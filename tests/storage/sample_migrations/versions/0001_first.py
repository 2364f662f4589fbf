import sqlalchemy as sa
from alembic import op

from slipway_db import create_consumer, create_outbox, grant_view

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "item",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.UniqueConstraint("name", name="uq_item_name"),
    )
    create_outbox(op, "shop", readers=["mill", "absent"])
    create_consumer(op, "shop", publishers=["mill"])
    op.execute("CREATE VIEW shop_pub.item_v1 AS SELECT id, name FROM item")
    grant_view(op, "shop_pub.item_v1", to=["mill", "absent"])
