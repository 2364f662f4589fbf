"""Tables of what is seen of endpoints: requests by the minute, and how far their logs are kept."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase
from slipway_db.leases import LeaseColumns


class EndpointMinuteRow(BuilderBase):
    """Requests of one endpoint under one prefix (its version's, or an alias's) in one minute."""

    __tablename__ = "endpoint_minutes"

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    prefix: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    requests: Mapped[int] = mapped_column(BIG)
    server_errors: Mapped[int] = mapped_column(BIG)
    client_errors: Mapped[int] = mapped_column(BIG)
    latency_ms_sum: Mapped[float]
    latency_ms_max: Mapped[float]
    buckets: Mapped[list[int]]


class LogFollowerRow(LeaseColumns, BuilderBase):
    """Which builder follows the logs of a target (`id`) now."""

    __tablename__ = "log_followers"

    id: Mapped[UUID] = mapped_column(primary_key=True)


class LogMarkRow(BuilderBase):
    """How far the log service has the log of a replica (`Mark`), and how far it has it for good (`durable`)."""

    __tablename__ = "log_marks"

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    replica: Mapped[str] = mapped_column(primary_key=True)
    durable: Mapped[bool] = mapped_column(primary_key=True)
    day: Mapped[date]
    lines: Mapped[int] = mapped_column(BIG)
    records: Mapped[int] = mapped_column(BIG)
    at: Mapped[datetime]
    at_lines: Mapped[int] = mapped_column(BIG)
