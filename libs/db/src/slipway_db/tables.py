"""Building blocks of `tables.py` files: naming conventions, column types, common columns."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

from slipway_kit.ids import new_id

UuidKey = Annotated[UUID, mapped_column(Uuid(), primary_key=True, default=new_id)]
"""Primary key: a UUIDv7 made in Python."""

CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
"""When the row was written, by the database clock."""


def metadata_for(schema: str) -> MetaData:
    """Return empty metadata with the house's constraint names.

    Tables carry no schema prefix: every connection of a service has exactly its own schema as search path, so
    the same models serve reflection, autogenerate and queries. The name is kept in `info["schema"]`.
    """
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
        info={"schema": schema},
    )


class Base:
    """Type map of mapped classes; a service combines it with SQLAlchemy's base and its own metadata.

    `class SchedulerBase(Base, DeclarativeBase): metadata = metadata_for("scheduler")`. Each service thereby has
    its own registry, so equal class names in two services of one process never meet.
    """

    type_annotation_map: ClassVar[Mapping[Any, Any]] = {
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }
