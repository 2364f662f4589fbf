"""Tables of metadata: one row per execution with the last values, blocks with the series."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import Mapped, mapped_column

from slipway_logs.orm import LogsBase


class MetadataLatestRow(LogsBase):
    """The last value of each key, of the newest attempt that printed any."""

    __tablename__ = "metadata_latest"

    execution_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    values: Mapped[dict[str, Any]]
    records: Mapped[int] = mapped_column(BigInteger)


class MetadataBlockRow(LogsBase):
    """Up to 1,000 records of an attempt, each `[time in µs, object]`."""

    __tablename__ = "metadata_blocks"

    attempt_id: Mapped[UUID] = mapped_column(primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    count: Mapped[int] = mapped_column(Integer)
    records: Mapped[list[Any]]
