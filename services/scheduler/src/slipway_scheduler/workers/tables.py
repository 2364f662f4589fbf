"""Tables of workers: the machine, what it last said, and the narrow leases of its attempts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Float, ForeignKey, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway_db import CreatedAt, UuidKey
from slipway_scheduler.database import BIG, SchedulerBase


class WorkerRow(SchedulerBase):
    """One machine of an environment."""

    __tablename__ = "workers"
    __table_args__ = (UniqueConstraint("environment_id", "machine_id"),)

    id: Mapped[UuidKey]
    environment_id: Mapped[UUID] = mapped_column(ForeignKey("environments.id"))
    machine_id: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    hostname: Mapped[str]
    runtime: Mapped[str]
    runtime_version: Mapped[str]
    agent_version: Mapped[str]
    slots: Mapped[int]
    cpus: Mapped[float] = mapped_column(Float(53))
    memory_bytes: Mapped[int] = mapped_column(BIG)
    gpus: Mapped[int]
    gpu_list: Mapped[list[Any]]
    addresses: Mapped[list[str]]
    drain_wanted: Mapped[bool]
    registered_at: Mapped[CreatedAt]


class WorkerStateRow(SchedulerBase):
    """What a worker said in its last sync. Written by one statement for many workers."""

    __tablename__ = "worker_states"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    worker_id: Mapped[UUID] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    last_seen_at: Mapped[datetime]
    reachable: Mapped[bool]
    draining: Mapped[bool]
    free_slots: Mapped[int]
    free_cpus: Mapped[float] = mapped_column(Float(53))
    free_memory_bytes: Mapped[int] = mapped_column(BIG)
    free_gpus: Mapped[int]
    refusal: Mapped[str] = mapped_column(server_default=text("''"))
    """Why it takes nothing new, in one word (`Refusal`); empty when it does."""
    refusal_message: Mapped[str] = mapped_column(server_default=text("''"))
    clock_skew_seconds: Mapped[float | None] = mapped_column(Float(53))
    """How far its clock was ahead of the database's at its last sync."""
    disk_free_bytes: Mapped[int | None] = mapped_column(BIG)
    disk_total_bytes: Mapped[int | None] = mapped_column(BIG)


class LeaseRow(SchedulerBase):
    """The lease of an open attempt: a row exists exactly while the attempt is its execution's current one."""

    __tablename__ = "leases"
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)

    attempt_id: Mapped[UUID] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    execution_id: Mapped[UUID]
    worker_id: Mapped[UUID] = mapped_column(index=True)
    environment_id: Mapped[UUID]
    owner_id: Mapped[int]
    expires_at: Mapped[datetime]
    listed: Mapped[bool]
    """The worker has named the attempt in a sync; from then on its free resources account for it."""
    unreachable_since: Mapped[datetime | None]
    stop_level: Mapped[int] = mapped_column(SmallInteger())
    stop_reason: Mapped[str | None]
    cpus: Mapped[float] = mapped_column(Float(53))
    memory_bytes: Mapped[int] = mapped_column(BIG)
    gpus: Mapped[int]


class LeaseClockRow(SchedulerBase):
    """When leases were last judged, by the database clock: a gap here is an outage, which counts for no lease."""

    __tablename__ = "lease_clock"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(SmallInteger(), primary_key=True, autoincrement=False)
    judged_at: Mapped[datetime]
