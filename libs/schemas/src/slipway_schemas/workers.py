"""The worker protocol: registration, and sync, by which a worker and the scheduler tell each other what is so.

Sync is level-triggered: the worker says what it has, the scheduler answers with what differs. Losing any one message
costs time, never a run (design section 4, 'An execution').
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from slipway_schemas.attempts import AttemptDocument
from slipway_schemas.base import WIRE_VERSION, JsonObject, WireModel
from slipway_schemas.lifecycles import AttemptPhase, EndReason
from slipway_schemas.storable import Int32, MadeStorable, Natural32, Natural64


class Gpu(WireModel):
    """One GPU of a worker."""

    index: Natural32
    name: str
    memory_bytes: Natural64


class Capacity(WireModel):
    """What a worker has, or has free: slots are the number of attempts it runs side by side."""

    slots: Natural32
    cpus: float = Field(ge=0, allow_inf_nan=False)
    memory_bytes: Natural64
    gpus: Natural32 = 0


class DiskReport(WireModel):
    """The file system of a worker's home."""

    free_bytes: Natural64
    total_bytes: Natural64
    full: bool = False
    """Free space is below the worker's mark: it takes no work until there is more."""


class WorkerRegister(MadeStorable, WireModel):
    """A machine joins the environment of its group token. `machine_id` makes registering again the same worker."""

    v: int = WIRE_VERSION
    machine_id: str = Field(min_length=1, max_length=128)
    hostname: str
    agent_version: str
    runtime: str
    runtime_version: str = ""
    capacity: Capacity
    gpus: tuple[Gpu, ...] = ()
    addresses: tuple[str, ...] = ()


class WorkerRegistered(WireModel):
    """The worker's server-issued identity and the rhythm it must keep."""

    v: int = WIRE_VERSION
    worker_id: UUID
    worker_token: str
    environment_id: UUID
    environment_slug: str
    renew_seconds: float = 3.0
    lease_seconds: float = 10.0


class AttemptReport(WireModel):
    """What the worker has of one attempt. Being listed renews its lease."""

    attempt_id: UUID
    phase: AttemptPhase
    detail: str = ""
    stop_level: Natural32 = 0
    """The highest stop order acted on: 0 none, 1 graceful, 2 kill, 3 give up."""


class FactBase(WireModel):
    """Something that happened to an attempt. `seq` grows per attempt; a fact is sent until it is answered."""

    attempt_id: UUID
    seq: int = Field(ge=1, lt=2**31)
    at: datetime


class Accepted(FactBase):
    """The worker has taken the assignment: the execution counts as started from `at`."""

    kind: Literal["accepted"] = "accepted"


class UserCodeStarted(FactBase):
    """The user's first command runs: from here on a platform failure is not retried without being asked."""

    kind: Literal["user_code_started"] = "user_code_started"


class Exited(FactBase):
    """The run is over and everything of it is safe: logs readable, outputs registered (the worker's barrier)."""

    kind: Literal["exited"] = "exited"
    code: Int32
    reason: EndReason
    message: str = ""
    evidence: JsonObject = {}
    last_line: Natural64 = 0
    """Number of log lines of the attempt, over all its streams."""
    outputs: Natural32 = 0
    metadata_lines: Natural32 = 0


class Failed(FactBase):
    """The worker could not run the attempt, or had to give it up. Totals say what of it is kept."""

    kind: Literal["failed"] = "failed"
    reason: EndReason
    message: str
    retryable: bool
    """Whether another worker, or another time, may help."""
    evidence: JsonObject = {}
    last_line: Natural64 = 0
    outputs: Natural32 = 0
    metadata_lines: Natural32 = 0


Fact = Annotated[Accepted | UserCodeStarted | Exited | Failed, Field(discriminator="kind")]


class Refusal(StrEnum):
    """Why a worker takes nothing new."""

    DRAINING = "draining"
    PREEMPTED = "preempted"
    DISK = "disk"


class SyncRequest(MadeStorable, WireModel):
    """Up: what the worker has and what happened. Held up to `wait_seconds` when there is nothing to say."""

    v: int = WIRE_VERSION
    free: Capacity
    attempts: tuple[AttemptReport, ...] = ()
    facts: tuple[Fact, ...] = ()
    lost: tuple[UUID, ...] = ()
    """Of the attempts that an answer called missing: those that this worker has not got."""
    draining: bool = False
    refusal: Refusal | None = None
    refusal_message: str = ""
    """The refusal in words, with its figures."""
    at: datetime | None = None
    """The worker's clock when it sent this."""
    disk: DiskReport | None = None
    wait_seconds: float = Field(default=20.0, ge=0, le=30)


class Assignment(WireModel):
    """An attempt given to this worker, with its fencing token. Repeated until the worker lists the attempt."""

    attempt_id: UUID
    token: str
    document: AttemptDocument


class StopOrder(WireModel):
    """Stop this attempt. Level 1 is the graceful ladder, 2 kills now, 3 gives the upload up as well."""

    attempt_id: UUID
    level: int = Field(ge=1, le=3)
    reason: EndReason = EndReason.USER


class SyncAnswer(WireModel):
    """Down: what differs from what the worker said."""

    v: int = WIRE_VERSION
    assignments: tuple[Assignment, ...] = ()
    stops: tuple[StopOrder, ...] = ()
    superseded: tuple[UUID, ...] = ()
    """Attempts that are no longer this worker's: kill them, write nothing."""
    missing: tuple[UUID, ...] = ()
    """Attempts that the request should have named. A request may be late and overtaken, so its silence proves nothing:
    a worker that really has not got them says so (`lost`)."""
    facts_done: tuple[tuple[UUID, int], ...] = ()
    """(attempt, seq) of every fact of the request that is stored; these need not be sent again."""
    drain: bool = False
