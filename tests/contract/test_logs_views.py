"""What log-relay publishes: columns of its views, its OpenAPI documents, models against migrations."""

import json
import subprocess
import sys

import pytest

from slipway_db import check_models, published_columns
from slipway_logs.spec import MIGRATIONS
from tests.api.logs.harness import logs_url_of, template_database

__all__ = ["template_database"]

VIEWS = {
    "cursor_v1": [("consumer", "text"), ("publisher", "text"), ("position", "bigint")],
    "log_total_v1": [("execution_id", "uuid"), ("attempt_id", "uuid"), ("lines", "bigint"), ("bytes", "bigint")],
    "metadata_latest_v1": [
        ("execution_id", "uuid"),
        ("attempt_id", "uuid"),
        ("values", "jsonb"),
        ("records", "bigint"),
    ],
}
PATHS = {
    "public": [
        "/api/v1/streams/deployment-endpoints/{endpoint_id}/log/",
        "/api/v1/streams/executions/{execution_id}/log/",
    ],
    "workers": [
        "/workers/v1/logs",
        "/workers/v1/usage",
    ],
    "internal": [
        "/internal/v1/endpoints/{endpoint_id}/log",
        "/internal/v1/endpoints/{endpoint_id}/metadata",
        "/internal/v1/endpoints/{endpoint_id}/replicas/{replica}/log/{day}",
        "/internal/v1/executions/{execution_id}/events",
        "/internal/v1/executions/{execution_id}/log",
        "/internal/v1/executions/{execution_id}/metadata",
        "/internal/v1/executions/{execution_id}/status-events",
        "/internal/v1/executions/{execution_id}/usage",
        "/internal/v1/health",
    ],
}


async def test_views_have_the_agreed_columns(database_url: str) -> None:
    assert await published_columns(logs_url_of(database_url), MIGRATIONS) == VIEWS


async def test_models_and_migrations_agree(database_url: str) -> None:
    await check_models(logs_url_of(database_url), MIGRATIONS)


@pytest.mark.parametrize("app", list(PATHS))
def test_openapi_needs_no_settings(app: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "slipway_logs", "openapi", "--app", app],
        env={"PATH": ""},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert sorted(json.loads(printed.stdout)["paths"]) == PATHS[app]
