"""Table of requests by the minute."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from slipway_builder.database import BIG, BuilderBase


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
