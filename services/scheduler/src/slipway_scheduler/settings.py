"""Settings of the scheduler, from `SLIPWAY_SCHEDULER__*`."""

from pathlib import Path

from pydantic import Field

from slipway_kit.settings import (
    DatabaseSettings,
    Group,
    KeySettings,
    NeighbourSettings,
    RedisSettings,
    ServiceSettings,
    service_config,
)


class LeaseSettings(Group):
    """The rhythm between workers and the scheduler, in seconds (design rule 8)."""

    lease_seconds: float = Field(default=10.0, gt=0)
    renew_seconds: float = Field(default=3.0, gt=0)
    grace_seconds: float = Field(default=15.0, ge=0)
    """How long nothing is judged after a start or an outage."""
    outage_seconds: float = Field(default=5.0, gt=0)
    """A longer pause between two judgements is an outage of the platform: it counts for no lease."""
    judge_seconds: float = Field(default=1.0, gt=0)
    hold_seconds: float = Field(default=20.0, gt=0)
    """How long a sync is held when there is nothing to say."""


class SchedulerSettings(ServiceSettings):
    """Everything that the scheduler can be told."""

    model_config = service_config("scheduler")

    database: DatabaseSettings
    redis: RedisSettings
    keys: KeySettings
    token_pepper_file: Path
    """32 random bytes or more; worker and group tokens are stored hashed with it."""
    public_url: str = ""
    neighbours: NeighbourSettings = NeighbourSettings()
    leases: LeaseSettings = LeaseSettings()
