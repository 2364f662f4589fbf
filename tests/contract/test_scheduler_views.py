"""The columns of the scheduler's published views are a contract: additions are fine, the rest needs a new number."""

from slipway_db import MigrationSpec, bootstrap, check_models, migrate, published_columns
from slipway_scheduler.database import MIGRATIONS
from slipway_testing.roles import ROLE_PASSWORDS, service_url

EXECUTION = (
    "id project_id counter status end_reason end_message end_evidence status_detail step title environment_id"
    " environment_slug environment_name commit_identifier image priority creator_id creator_name owner_id tags"
    " created_at queued_at started_at finished_at updated_at duration_seconds attempt_id attempt_count phase exit_code"
    " spec autorestart deleted_at"
)
COLUMNS = {
    "execution_v1": EXECUTION,
    "attempt_v1": "id execution_id number worker_id environment_id phase superseded created_at accepted_at user_code_at"
    " ended_at exit_code end_reason total_lines total_outputs total_metadata detail end_message end_evidence"
    " fingerprint failure_line",
    "transition_v1": "execution_id position before after reason message at actor_id attempt_id",
    "environment_v1": "id slug name description owner_id enabled provider gpu_spec per_hour_price_usd"
    " per_user_queue_quota settings unfinished_job_count deleted_at",
    "worker_v1": "id environment_id hostname runtime capacity free state last_seen_at agent_version attempts refusal"
    " refusal_message clock_skew_seconds disk_free_bytes disk_total_bytes",
    "event_v1": "position id name key actor occurred_at payload",
    "cursor_v1": "consumer publisher position",
}
TYPES = {
    "tags": "text[]",
    "spec": "jsonb",
    "counter": "integer",
    "duration_seconds": "double precision",
    "attempt_id": "uuid",
    "started_at": "timestamp with time zone",
}


async def test_columns(database_url: str) -> None:
    await bootstrap(database_url, [MIGRATIONS, MigrationSpec("gateway", "gateway", "")], ROLE_PASSWORDS)
    url = service_url(database_url, "scheduler")
    await migrate(lambda _: url, [MIGRATIONS])
    found = await published_columns(url, MIGRATIONS)
    assert {view: " ".join(name for name, _ in columns) for view, columns in found.items()} == COLUMNS
    types = dict(found["execution_v1"])
    assert {name: types[name] for name in TYPES} == TYPES
    await check_models(url, MIGRATIONS)
