"""Definitions of the views that others read. Columns are the contract: only additions keep a view's number."""

from slipway_db import grant_view
from slipway_db.migrations import MigrationOperations

DEFINITIONS = {
    "target_v1": """
SELECT id, name, kind, public_url, is_default, unreachable_since, problem, created_at FROM targets
WHERE deleted_at IS NULL
""",
    "deployment_v1": """
SELECT id, project_id, owner_id, creator_id, name, path, target_id, enabled, public, created_at, modified_at, deleted_at
FROM deployments
""",
    "version_v1": """
SELECT id, deployment_id, project_id, name, creator_id, creator_name, commit_identifier, adhoc, enabled, own_variables,
    created_at, modified_at, deleted_at
FROM versions
""",
    "endpoint_v1": """
SELECT e.id, e.version_id, e.deployment_id, e.name, e.spec, e.enabled, e.status, e.status_detail, e.replicas_ready,
    e.replicas_wanted, e.scale, e.image_id,
    CASE WHEN t.problem <> '' AND e.serving THEN 'target_unreachable' ELSE e.problem END AS problem,
    e.restarts, e.last_lines, e.ready_at, e.created_at, e.modified_at
FROM endpoints e JOIN targets t ON t.id = e.target_id
""",
    "alias_v1": """
SELECT id, deployment_id, name, version_id, canary_version_id, canary_percent, sticky, max_error_percent,
    max_latency_ms, modified_at
FROM aliases
""",
    "alias_move_v1": """
SELECT id, alias_id, deployment_id, alias_name, version_id, previous_version_id, canary_version_id, canary_percent,
    actor_id, reason, automatic, at
FROM alias_moves
""",
    "key_v1": """
SELECT id, deployment_id, consumer, endpoints, expires_at, requests_per_minute, created_at, last_used_at, revoked_at,
    creator_id
FROM keys
""",
    "image_v1": """
SELECT id, version_id, status, detail, reference, digest, base, builder, size, tries, created_at, started_at, ended_at
FROM images
""",
    "endpoint_minute_v1": """
SELECT endpoint_id, prefix, minute, requests, server_errors, client_errors, latency_ms_sum, latency_ms_max, buckets
FROM endpoint_minutes
""",
}

SHOWN_KEYS = f"{DEFINITIONS['key_v1']} WHERE NOT hidden"

ENDPOINT_ACCESS = """
SELECT e.id, v.project_id, least(v.deleted_at, d.deleted_at) AS deleted_at
FROM endpoints e JOIN versions v ON v.id = e.version_id JOIN deployments d ON d.id = e.deployment_id
"""
"""Whose logs an endpoint's are; for the log service."""


def create_view(op: MigrationOperations, name: str, definition: str, *, to: str = "gateway") -> None:
    """Create a view in the published schema and grant it to its reader."""
    op.execute(f"CREATE VIEW builder_pub.{name} AS {definition}")
    grant_view(op, f"builder_pub.{name}", to=(to,))
