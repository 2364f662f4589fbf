"""The gateway's schema: one metadata for the tables of all features, and where its migrations lie."""

from typing import Final

from sqlalchemy.orm import DeclarativeBase

from slipway_db.specs import MigrationSpec
from slipway_db.tables import Base, metadata_for

SCHEMA: Final = "gateway"

MIGRATIONS: Final = MigrationSpec(
    service="gateway",
    schema=SCHEMA,
    script_location="slipway_gateway:migrations",
    views=("token_v1", "project_access_v1", "project_v1", "event_v1"),
)


class GatewayBase(Base, DeclarativeBase):
    """Base of all mapped classes of the gateway."""

    metadata = metadata_for(SCHEMA)
