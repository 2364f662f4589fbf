"""The declarative base of all tables of the scheduler, and what its migrations publish."""

from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Text, Uuid
from sqlalchemy.orm import DeclarativeBase

from slipway_db import Base, MigrationSpec, consumer_tables, metadata_for, outbox_tables

SCHEMA = "scheduler"
VIEWS = ("cursor_v1", "event_v1", "execution_v1", "attempt_v1", "transition_v1", "environment_v1", "worker_v1")
MIGRATIONS = MigrationSpec("scheduler", SCHEMA, "slipway_scheduler:migrations", views=VIEWS)
BIG = BigInteger()
TIME = DateTime(timezone=True)


class SchedulerBase(Base, DeclarativeBase):
    """Base of the mapped classes."""

    metadata = metadata_for(SCHEMA)
    type_annotation_map = {**Base.type_annotation_map, str: Text(), list[str]: ARRAY(Text()), list[UUID]: ARRAY(Uuid())}


def all_metadata() -> Any:
    """Return the metadata with every table of the schema, for Alembic."""
    import slipway_scheduler.environments.tables
    import slipway_scheduler.executions.tables
    import slipway_scheduler.workers.tables  # noqa: F401 - imported for their tables

    metadata = SchedulerBase.metadata
    if "outbox" not in metadata.tables:
        outbox_tables(metadata)
        consumer_tables(metadata)
    return metadata
