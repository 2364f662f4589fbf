"""How the platform is: what each service tells of itself, and all of it in one place for operators."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from slipway_schemas.base import JsonObject, WireModel


class LoopHealth(WireModel):
    """A background loop of one process since it started."""

    name: str
    ran_at: datetime | None = None
    """When it last came to its end without an error."""
    rows: int = 0
    failures: int = 0
    failed_at: datetime | None = None
    error: str = ""
    due_since: datetime | None = None
    """Since when rows wait for it; None when nothing does."""


class ConsumerHealth(WireModel):
    """A consumer of events: how far it has come, and what it could not handle."""

    name: str
    publisher: str
    behind: int
    """Events that the publisher has written and this consumer has not passed."""
    waiting: int = 0
    """Refused events that will be tried again."""
    parked: int = 0
    """Events that were given up after ten tries."""
    error: str = ""


class ServiceHealth(WireModel):
    """What a service says of itself."""

    service: str
    version: str
    at: datetime
    """Its clock."""
    checks: dict[str, str] = {}
    """What it needs, with `ok` or the reason why not."""
    database_skew_seconds: float | None = None
    """How far its clock is ahead of the database's."""
    loops: tuple[LoopHealth, ...] = ()
    consumers: tuple[ConsumerHealth, ...] = ()
    figures: dict[str, float] = {}


class ServiceState(WireModel):
    """A service as the gateway sees it."""

    name: str
    ready: bool
    reason: str = ""
    health: ServiceHealth | None = None


class EnvironmentState(WireModel):
    """An environment with its queue."""

    slug: str
    name: str
    enabled: bool
    waiting: int
    """Executions that are not queued yet: their code is missing, or their owner is over the quota."""
    queued: int
    running: int
    oldest_queued_at: datetime | None = None
    workers: int
    """Workers that are connected and take work."""


class WorkerState(WireModel):
    """A worker as it last told of itself. `capacity` and `free` have slots, cpus, memory_bytes, gpus."""

    id: UUID
    hostname: str
    environment: str
    state: str
    version: str
    last_seen_at: datetime
    attempts: int
    capacity: JsonObject
    free: JsonObject
    refusal: str = ""
    clock_skew_seconds: float | None = None


class ProblemLevel(StrEnum):
    """How bad it is: `bad` stops or loses something for somebody, `warning` may do so."""

    BAD = "bad"
    WARNING = "warning"


class HealthProblem(WireModel):
    """Something that is wrong or behind: what, why, and what to do."""

    level: ProblemLevel
    what: str
    why: str = ""
    fix: str = ""


class PlatformHealth(WireModel):
    """All of the platform. `problems` has the worst first."""

    at: datetime
    version: str
    problems: tuple[HealthProblem, ...] = ()
    services: tuple[ServiceState, ...] = ()
    environments: tuple[EnvironmentState, ...] = ()
    workers: tuple[WorkerState, ...] = ()
    uploads_waiting: int = 0
    oldest_upload_at: datetime | None = None
    logs_not_durable: int | None = None
    """Attempts with lines that are not in the log store yet; None when the log service does not say."""
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    """The disk of the local object store; None where objects lie elsewhere."""
