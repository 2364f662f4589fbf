"""Internal API of executions: what the gateway asks of the scheduler."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field

from slipway_schemas.base import Json, JsonObject, StrictModel, WireModel
from slipway_schemas.lifecycles import ExecutionStatus
from slipway_schemas.storable import Int32, Natural32, Natural64, Storable


class KeepDirectories(StrEnum):
    """How much of a file's path is kept below the input's directory (contract 2.2, input)."""

    NONE = "none"
    SUFFIX = "suffix"
    FULL = "full"


class InputSpec(WireModel):
    """One declared input with the URIs it resolves from. Aliases are frozen to `datum://<uuid>` at creation."""

    name: str
    urls: tuple[str, ...] = ()
    original_urls: tuple[str, ...] = ()
    keep_directories: KeepDirectories = KeepDirectories.NONE
    filename: str | None = None
    download: Literal["always", "on-demand"] = "always"


class SecretRef(WireModel):
    """Names a secret without its value: the gateway gives the value to the worker, nobody else sees it."""

    scope: Literal["project", "execution", "organization", "group"]
    scope_id: UUID
    name: str
    version: int


class EnvironmentVariable(WireModel):
    """A variable of the run: a plain value, or a reference to a secret."""

    value: str | None = None
    secret: SecretRef | None = None


class MountSpec(WireModel):
    """A mount that the step asks for; made only where the environment allows it."""

    source: str
    destination: str
    readonly: bool = False


class Resources(WireModel):
    """What a run needs. `None` = the environment's default."""

    cpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cpus_max: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    memory_bytes: Natural64 | None = None
    memory_max_bytes: Natural64 | None = None
    gpus: Natural32 | None = None
    devices: dict[str, int] | None = None


class CodeRef(WireModel):
    """Where the commit's archive lies. `archive_key` is None while the snapshot has still to be made."""

    identifier: str
    adhoc: bool = False
    archive_key: str | None = None
    archive_sha256: str | None = None
    archive_format: Literal["tar.zst", "tar.gz"] = "tar.zst"


class ExecutionSpec(WireModel):
    """All that defines a run, resolved at creation: payload > step > environment > project (contract 1.3)."""

    code: CodeRef
    step: str
    image: str
    command: tuple[str, ...]
    interpolated_command: str
    parameters: dict[str, Json] = {}
    parameter_categories: dict[str, str] = {}
    inputs: tuple[InputSpec, ...] = ()
    environment_variables: dict[str, EnvironmentVariable] = {}
    mounts: tuple[MountSpec, ...] = ()
    cache_volumes: tuple[str, ...] = ()
    resources: Resources = Resources()
    time_limit_seconds: int | None = None
    no_output_timeout_seconds: int | None = None
    stop_condition: str | None = None
    autorestart: bool = False
    upload_store_id: UUID | None = None
    debug_port: int | None = None
    debug_key: str | None = None
    step_icon: str | None = None
    category: str | None = None
    runtime_config: JsonObject = {}


class ExecutionDraft(Storable, StrictModel):
    """A new execution. Its id is picked by the gateway, so sending it again creates nothing twice."""

    id: UUID
    project_id: UUID
    project_name: str
    """`owner/name`, as user code reads it (contract 3.6)."""
    owner_id: Natural32
    creator_id: Natural32
    creator_name: str
    creator_email: str = ""
    environment_id: UUID
    title: str | None = None
    tags: tuple[str, ...] = ()
    priority: Int32 = 0
    spec: ExecutionSpec


class ExecutionCreated(WireModel):
    """The scheduler's answer to a draft."""

    id: UUID
    counter: int
    status: ExecutionStatus


class StopRequest(Storable, StrictModel):
    """Ask an execution to stop. A second request, or `hard`, kills it now."""

    hard: bool = False
    message: str = ""


class StopAnswer(WireModel):
    """What a stop request found and did."""

    status: ExecutionStatus
    level: int
    """0 = nothing to stop, 1 = asked to end, 2 = being killed, 3 = its outputs are given up."""


class ExecutionPatch(Storable, StrictModel):
    """Changes to what people may change. None = leave as it is."""

    title: str | None = None
    tags: tuple[str, ...] | None = None
    add_tags: tuple[str, ...] = ()
    priority: Int32 | None = None
    status_detail: str | None = None


class BlockerKind(StrEnum):
    """Why a waiting execution waits."""

    CODE_SNAPSHOT = "code_snapshot"
    QUOTA = "quota"
    ENVIRONMENT_DISABLED = "environment_disabled"
    NO_WORKER = "no_worker"
    NO_FREE_SLOT = "no_free_slot"
    RESOURCES = "resources"
    QUEUE = "queue"
    WORKERS_REFUSE = "workers_refuse"
    WORKER_AVOIDED = "worker_avoided"


class Blocker(WireModel):
    """One reason for waiting: what, in words, and what would unblock it."""

    kind: BlockerKind
    message: str
    unblocks: str = ""
    details: JsonObject = {}


class StartEstimate(WireModel):
    """When a queued execution will probably start, by how long runs of its environment took."""

    seconds: float
    """From now."""
    runs: int
    """How many finished runs it is reckoned from."""
    message: str


class FailedAttempt(WireModel):
    """The attempt after which an execution was put into the queue again."""

    number: int
    worker: str
    reason: str
    message: str
    at: datetime


class Waiting(WireModel):
    """Why an execution waits and where it stands in its queue. Empty when it does not wait."""

    status: ExecutionStatus
    detail: str = ""
    """What a started execution is doing before its command runs, such as how much of its inputs is there."""
    position: int | None = None
    """1 = next in its environment."""
    queue_length: int | None = None
    since: datetime | None = None
    blockers: tuple[Blocker, ...] = ()
    estimate: StartEstimate | None = None
    """None where nothing has run yet to reckon from, or where it cannot start as things are."""
    failed_attempt: FailedAttempt | None = None
