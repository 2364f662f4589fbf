"""What a run uses of its machine, as a series of samples."""

from uuid import UUID

from pydantic import Field

from slipway_schemas.base import WIRE_VERSION, WireModel
from slipway_schemas.storable import Natural32, Natural64


class GpuUse(WireModel):
    """One GPU of the run at one moment."""

    index: Natural32
    busy_percent: float = Field(ge=0, allow_inf_nan=False)
    memory_bytes: Natural64


class UsageSample(WireModel):
    """A run at one moment. What could not be measured is None."""

    time_us: int = Field(gt=0, lt=2**53)
    """µs since 1970 UTC; later than the sample before it."""
    cpu_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """CPU time since the run began."""
    cpus: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Cores in use, on average since the sample before."""
    memory_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    """Memory that cannot be given back: without the file cache where the kernel tells it apart."""
    memory_peak_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    memory_limit_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    disk_bytes: int | None = Field(default=None, ge=0, lt=2**63)
    """Files of the attempt: outputs, inputs, code, temporary files."""
    processes: int | None = Field(default=None, ge=0, lt=2**31)
    gpus: tuple[GpuUse, ...] = Field(default=(), max_length=64)


class UsageBatch(WireModel):
    """Samples of one attempt, oldest first. Sending the same batch again changes nothing."""

    v: int = WIRE_VERSION
    samples: tuple[UsageSample, ...] = Field(min_length=1, max_length=100)


class UsageAnswer(WireModel):
    """How many samples were taken."""

    stored: int


class UsageSeries(WireModel):
    """The samples of one attempt, thinned out to at most the number that was asked for."""

    attempt_id: UUID
    number: int
    count: int
    """Samples that were kept, before thinning out."""
    samples: tuple[UsageSample, ...]
