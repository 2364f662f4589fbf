"""Definitions of the views that others read. Columns are the contract: only additions keep a view's number."""

from slipway_db import grant_view
from slipway_db.migrations import MigrationOperations

EXECUTION_V1 = """
SELECT e.id, e.project_id, e.counter, e.status, e.end_reason, e.end_message, e.end_evidence,
    CASE WHEN e.status NOT IN ('started', 'stopping') OR coalesce(a.detail, '') = '' THEN e.status_detail
        WHEN e.status_detail = '' OR (a.phase = 'uploading' AND e.status_detail NOT LIKE 'unreachable since %')
        THEN a.detail ELSE e.status_detail END AS status_detail,
    e.step, e.title, e.environment_id, e.environment_slug, e.environment_name, e.commit_identifier, e.image,
    e.priority, e.creator_id, e.creator_name, e.owner_id, e.tags, e.created_at, e.queued_at, e.started_at,
    e.finished_at, e.updated_at,
    CAST(extract(epoch FROM coalesce(e.finished_at, now()) - e.started_at) AS double precision) AS duration_seconds,
    e.attempt_id, e.attempt_count, a.phase, e.exit_code, e.spec, e.autorestart, e.deleted_at
FROM executions e LEFT JOIN attempts a ON a.id = e.attempt_id
"""

ATTEMPT_V1 = """
SELECT id, execution_id, number, worker_id, environment_id, phase, superseded, created_at, accepted_at, user_code_at,
    ended_at, exit_code, end_reason, total_lines, total_outputs, total_metadata, detail, end_message, end_evidence,
    fingerprint, failure_line
FROM attempts
"""

TRANSITION_V1 = """
SELECT execution_id, position, before, after, reason, message, at, actor_id, attempt_id
FROM transitions
"""

ENVIRONMENT_V1 = """
SELECT v.id, v.slug, v.name, v.description, v.owner_id, v.enabled, v.provider, v.gpu_spec, v.per_hour_price_usd,
    v.per_user_queue_quota, v.settings,
    (SELECT count(*) FROM executions e WHERE e.environment_id = v.id
        AND e.status IN ('created', 'queued', 'started', 'stopping')) AS unfinished_job_count,
    v.deleted_at
FROM environments v
"""

WORKER_V1 = """
SELECT w.id, w.environment_id, w.hostname, w.runtime,
    jsonb_build_object('slots', w.slots, 'cpus', w.cpus, 'memory_bytes', w.memory_bytes, 'gpus', w.gpus) AS capacity,
    jsonb_build_object('slots', s.free_slots, 'cpus', s.free_cpus, 'memory_bytes', s.free_memory_bytes,
        'gpus', s.free_gpus) AS free,
    CASE WHEN NOT s.reachable OR s.last_seen_at < now() - interval '35 seconds' THEN 'unreachable'
        WHEN s.draining OR w.drain_wanted THEN 'draining' WHEN s.refusal = 'disk' THEN 'disk full' ELSE 'connected' END
        AS state,
    s.last_seen_at, w.agent_version,
    (SELECT count(*) FROM leases l WHERE l.worker_id = w.id) AS attempts,
    s.refusal, s.refusal_message, s.clock_skew_seconds, s.disk_free_bytes, s.disk_total_bytes
FROM workers w JOIN worker_states s ON s.worker_id = w.id
"""

READERS = {
    "execution_v1": ("gateway", "logs"),
    "attempt_v1": ("gateway", "logs"),
    "transition_v1": ("gateway", "logs"),
    "environment_v1": ("gateway",),
    "worker_v1": ("gateway",),
}


def create_view(op: MigrationOperations, name: str, definition: str) -> None:
    """Create a view in the published schema and grant it to its readers."""
    op.execute(f"CREATE VIEW scheduler_pub.{name} AS {definition}")
    grant_view(op, f"scheduler_pub.{name}", to=READERS[name])


def replace_view(op: MigrationOperations, name: str, definition: str) -> None:
    """Give a view more columns at its end, or other expressions; its readers stay."""
    op.execute(f"CREATE OR REPLACE VIEW scheduler_pub.{name} AS {definition}")
