"""The table of usage series."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from slipway_logs.orm import LogsBase


class UsageBlockRow(LogsBase):
    """The samples of an attempt within some hours, oldest first."""

    __tablename__ = "usage_blocks"

    attempt_id: Mapped[UUID] = mapped_column(primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Time of the samples divided by `BLOCK_US`."""
    first_us: Mapped[int] = mapped_column(BigInteger)
    last_us: Mapped[int] = mapped_column(BigInteger)
    """Time of the newest sample: what is not newer is here already."""
    samples: Mapped[list[Any]]
