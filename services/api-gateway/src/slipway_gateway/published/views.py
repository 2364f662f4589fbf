"""The read contract of the gateway: SQL of the views in `gateway_pub`, made by migrations.

A view that is published is never edited: additive changes replace it in a later migration, others get a new number.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """A published view and the services that may read it."""

    name: str
    sql: str
    readers: tuple[str, ...]


TOKEN_V1 = View(
    "gateway_pub.token_v1",
    """
    CREATE VIEW gateway_pub.token_v1 AS
    SELECT t.token_hash::text AS token_hash, t.user_id, a.slug::text AS username, u.is_admin, t.expires_at, t.revoked_at
    FROM tokens t
    JOIN users u ON u.account_id = t.user_id
    JOIN accounts a ON a.id = t.user_id
    WHERE u.active
    """,
    ("logs",),
)

PROJECT_ACCESS_V1 = View(
    "gateway_pub.project_access_v1",
    """
    CREATE VIEW gateway_pub.project_access_v1 AS
    SELECT u.account_id AS user_id, p.id AS project_id, true AS can_write
    FROM projects p
    JOIN users u ON u.account_id = p.owner_id
    WHERE p.deleted_at IS NULL
    UNION ALL
    SELECT m.user_id, p.id, true
    FROM projects p
    JOIN memberships m ON m.organization_id = p.owner_id
    WHERE p.deleted_at IS NULL
    """,
    ("logs",),
)

PROJECT_V1 = View(
    "gateway_pub.project_v1",
    """
    CREATE VIEW gateway_pub.project_v1 AS
    SELECT p.id, p.name::text AS name, p.slug::text AS slug, p.owner_id, a.slug::text AS owner_slug, p.deleted_at
    FROM projects p
    JOIN accounts a ON a.id = p.owner_id
    """,
    ("scheduler", "logs"),
)

VIEWS_0001 = (TOKEN_V1, PROJECT_ACCESS_V1, PROJECT_V1)
