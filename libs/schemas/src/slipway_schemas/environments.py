"""Internal API of environments (worker groups) and their group tokens."""

from decimal import Decimal
from typing import Literal
from uuid import UUID

from pydantic import Field

from slipway_schemas.base import StrictModel, WireModel
from slipway_schemas.names import Slug


class WorkerSize(WireModel):
    """What the largest worker of an environment has. 0 = none of it."""

    cpus: float = Field(default=0.0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)


class EnvironmentSettings(WireModel):
    """Rules of an environment that reach the worker with every attempt."""

    allow_mounts: bool = False
    stop_int_grace_seconds: float = Field(default=20.0, gt=0)
    stop_term_grace_seconds: float = Field(default=10.0, gt=0)
    lost_after_seconds: int = Field(default=900, ge=0)
    on_lost: Literal["crash", "requeue"] = "crash"
    exclusive: bool = False
    default_time_limit_seconds: int | None = None
    default_no_output_timeout_seconds: int | None = None
    worker_url: str | None = None
    """Origin under which workers reach the platform, where it differs from the public one."""
    allow_input_networks: tuple[str, ...] = ()
    """CIDR networks beyond the public internet that inputs may be fetched from (`egress.allow_inputs`)."""
    log_limit_bytes: int = 10 * 1024**3
    worker_size: WorkerSize | None = None
    """Size of the workers that can be had, where none may be connected: larger requests are refused at once.
    None = as large as the workers that were seen in the last 30 days."""


class EnvironmentCreate(StrictModel):
    """A new environment; `slug` is unique."""

    slug: Slug
    name: str = Field(min_length=1, max_length=128)
    description: str = ""
    provider: str = "static"
    owner_id: int | None = None
    """None = every user may use it."""
    enabled: bool = True
    gpu_spec: str = ""
    per_hour_price_usd: Decimal = Decimal(0)
    per_user_queue_quota: int = 0
    """0 or less = unlimited."""
    settings: EnvironmentSettings = EnvironmentSettings()


class EnvironmentPatch(StrictModel):
    """Changes to an environment. None = leave as it is."""

    name: str | None = None
    description: str | None = None
    enabled: bool | None = None
    per_user_queue_quota: int | None = None
    settings: EnvironmentSettings | None = None


class EnvironmentView(WireModel):
    """An environment as its owner, the scheduler, tells it."""

    id: UUID
    slug: str
    name: str
    enabled: bool


class GroupTokenCreated(WireModel):
    """A token with which machines join an environment. Shown once, kept as a hash."""

    id: UUID
    token: str
