"""Alembic environment of inference-builder's schema."""

from alembic import context

from slipway_builder.database import SCHEMA, all_metadata
from slipway_db.migrations import env_main

env_main(context, all_metadata(), SCHEMA)
