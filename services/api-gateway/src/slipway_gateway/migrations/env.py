"""Hands the gateway's tables to Alembic."""

from alembic import context

from slipway_db import env_main
from slipway_gateway.tables import metadata

env_main(context, metadata, "gateway")
