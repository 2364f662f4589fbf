"""The columns of the gateway's published views are a contract, and its models agree with its migrations."""

import pytest
from sqlalchemy import make_url

from slipway_db import MigrationSpec, bootstrap, check_models, migrate, published_columns
from slipway_gateway.database import MIGRATIONS

VIEWS = {
    "token_v1": [
        ("token_hash", "text"),
        ("user_id", "integer"),
        ("username", "text"),
        ("is_admin", "boolean"),
        ("expires_at", "timestamp with time zone"),
        ("revoked_at", "timestamp with time zone"),
    ],
    "project_access_v1": [("user_id", "integer"), ("project_id", "uuid"), ("can_write", "boolean")],
    "project_v1": [
        ("id", "uuid"),
        ("name", "text"),
        ("slug", "text"),
        ("owner_id", "integer"),
        ("owner_slug", "text"),
        ("deleted_at", "timestamp with time zone"),
    ],
    "event_v1": [
        ("position", "bigint"),
        ("id", "uuid"),
        ("name", "text"),
        ("key", "text"),
        ("actor", "integer"),
        ("occurred_at", "timestamp with time zone"),
        ("payload", "jsonb"),
    ],
}


@pytest.fixture
async def gateway_url(database_url: str) -> str:
    others = [MigrationSpec(name, name, "") for name in ("scheduler", "logs")]
    await bootstrap(database_url, [MIGRATIONS, *others], {"gateway": "g", "scheduler": "s", "logs": "l"})
    url = make_url(database_url).set(username="slipway_gateway", password="g").render_as_string(hide_password=False)
    await migrate(lambda _: url, [MIGRATIONS])
    return url


async def test_views_have_the_agreed_columns_and_models_agree_with_migrations(gateway_url: str) -> None:
    found = await published_columns(gateway_url, MIGRATIONS)
    assert {name: found[name] for name in VIEWS} == VIEWS
    assert set(found) - set(VIEWS) <= {"cursor_v1"}
    await check_models(gateway_url, MIGRATIONS)
