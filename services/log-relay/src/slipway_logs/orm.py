"""The declarative base of this service's tables."""

from sqlalchemy.orm import DeclarativeBase

from slipway_db.tables import Base, metadata_for

SCHEMA = "logs"
metadata = metadata_for(SCHEMA)


class LogsBase(Base, DeclarativeBase):
    """Base of all table classes in schema `logs`."""

    metadata = metadata
