"""Engine, unit of work, migration runner, published views, loops, outbox and cursors, dead letters."""

from slipway_db.bootstrap import BootstrapRefused, bootstrap
from slipway_db.database import Database, release, unique_violation
from slipway_db.doorbell import Doorbell, notify
from slipway_db.health import HealthBoard, described_only, health_router
from slipway_db.loops import Loop, LoopRunner, TimedLoop
from slipway_db.migrations import (
    ModelDrift,
    SchemaMismatch,
    check_models,
    check_schema,
    env_main,
    grant_view,
    migrate,
    published_columns,
)
from slipway_db.outbox import consumer_tables, create_consumer, create_outbox, emit, outbox_channel, outbox_tables
from slipway_db.sessions import Read, Sessions, Transaction, sessions
from slipway_db.specs import MigrationSpec, role_of
from slipway_db.tables import Base, CreatedAt, UuidKey, metadata_for

__all__ = [
    "Base",
    "BootstrapRefused",
    "CreatedAt",
    "Database",
    "Doorbell",
    "HealthBoard",
    "Loop",
    "LoopRunner",
    "MigrationSpec",
    "ModelDrift",
    "Read",
    "SchemaMismatch",
    "Sessions",
    "TimedLoop",
    "Transaction",
    "UuidKey",
    "bootstrap",
    "check_models",
    "check_schema",
    "consumer_tables",
    "create_consumer",
    "create_outbox",
    "described_only",
    "emit",
    "env_main",
    "grant_view",
    "health_router",
    "metadata_for",
    "migrate",
    "notify",
    "outbox_channel",
    "outbox_tables",
    "published_columns",
    "release",
    "role_of",
    "sessions",
    "unique_violation",
]
