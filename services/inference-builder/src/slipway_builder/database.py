"""The declarative base of all tables of inference-builder, and what its migrations publish."""

from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Text, Uuid
from sqlalchemy.orm import DeclarativeBase

from slipway_db import Base, MigrationSpec, consumer_tables, metadata_for

SCHEMA = "builder"
VIEWS = (
    "cursor_v1",
    "target_v1",
    "deployment_v1",
    "version_v1",
    "endpoint_v1",
    "endpoint_access_v1",
    "alias_v1",
    "alias_move_v1",
    "key_v1",
    "image_v1",
    "endpoint_minute_v1",
)
MIGRATIONS = MigrationSpec("builder", SCHEMA, "slipway_builder:migrations", views=VIEWS)
BIG = BigInteger()
TIME = DateTime(timezone=True)


class BuilderBase(Base, DeclarativeBase):
    """Base of the mapped classes."""

    metadata = metadata_for(SCHEMA)
    type_annotation_map = {
        **Base.type_annotation_map,
        str: Text(),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(BigInteger()),
        list[UUID]: ARRAY(Uuid()),
    }


def all_metadata() -> Any:
    """Return the metadata with every table of the schema, for Alembic."""
    import slipway_builder.aliases.tables
    import slipway_builder.deployments.tables
    import slipway_builder.endpoints.tables
    import slipway_builder.images.tables
    import slipway_builder.keys.tables
    import slipway_builder.observe.tables
    import slipway_builder.routing.tables
    import slipway_builder.targets.tables
    import slipway_builder.upkeep.tables
    import slipway_builder.versions.tables  # noqa: F401 - imported for their tables

    metadata = BuilderBase.metadata
    if "cursors" not in metadata.tables:
        consumer_tables(metadata)
    return metadata
