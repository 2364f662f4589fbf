"""Alembic environment of inference-builder's schema."""

from alembic import context

from slipway_db.migrations import env_main
from slipway_builder.database import SCHEMA, all_metadata

env_main(context, all_metadata(), SCHEMA)
