"""Migrations of schema `logs`."""

from alembic import context

from slipway_db.migrations import env_main
from slipway_logs.tables import metadata

env_main(context, metadata, "logs")
