"""Tables of the archive: streams and the index of their segments."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, Text, false, func
from sqlalchemy.orm import Mapped, mapped_column

from slipway_logs.orm import LogsBase


class StreamRow(LogsBase):
    """The log of one attempt, or of one replica and day (`LogSource`): how much of it is durable."""

    __tablename__ = "streams"

    attempt_id: Mapped[UUID] = mapped_column(primary_key=True)
    execution_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    replica: Mapped[str | None] = mapped_column(Text)
    durable_lines: Mapped[int] = mapped_column(BigInteger, server_default="0")
    durable_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_time_us: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    purge_at: Mapped[datetime | None]
    purged: Mapped[bool] = mapped_column(Boolean, server_default=false())

    __table_args__ = (
        Index("ix_streams_execution_id", "execution_id"),
        Index("ix_streams_purge_at", "purge_at", postgresql_where="purge_at IS NOT NULL AND NOT purged"),
    )


class SegmentRow(LogsBase):
    """A run of consecutive lines: an object in the log store, or the compressed bytes themselves while they are few."""

    __tablename__ = "segments"

    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("streams.attempt_id", ondelete="CASCADE"), primary_key=True)
    first_line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    end_line: Mapped[int] = mapped_column(BigInteger)
    status_lines: Mapped[int] = mapped_column(BigInteger)
    raw_bytes: Mapped[int] = mapped_column(BigInteger)
    object_key: Mapped[str | None] = mapped_column(Text)
    inline: Mapped[bytes | None] = mapped_column(LargeBinary)
