"""Values of environments."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Environment:
    """A worker group that the caller may use."""

    id: UUID
    slug: str
    name: str
    description: str
    owner_id: int | None
    owner_slug: str | None
    enabled: bool
    provider: str
    gpu_spec: str
    per_hour_price_usd: Decimal
    per_user_queue_quota: int
    unfinished_job_count: int
    settings: dict[str, Any] = field(default_factory=dict)
