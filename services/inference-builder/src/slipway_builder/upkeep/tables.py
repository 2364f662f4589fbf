"""Table of clean-ups."""

from datetime import datetime

from sqlalchemy.orm import Mapped

from slipway_builder.database import BuilderBase
from slipway_db import UuidKey
from slipway_db.leases import LeaseColumns


class CleanUpRow(LeaseColumns, BuilderBase):
    """When what a target's images are kept in is cleaned up. While the lease holds, no image of the target is built."""

    __tablename__ = "clean_ups"

    id: Mapped[UuidKey]
    """The target's."""
    next_at: Mapped[datetime]
