"""Settings of log-relay: `SLIPWAY_LOGS__…`."""

from pathlib import Path

from pydantic import Field

from slipway_kit.settings import DatabaseSettings, Group, KeySettings, RedisSettings, ServiceSettings, service_config
from slipway_logs.archive.service import FLUSH_AFTER_SECONDS
from slipway_storage import StoreConfig


class RetentionSettings(Group):
    """How long logs are kept."""

    keep_days: int | None = Field(default=None, ge=1)
    """None = for ever."""
    deleted_days: float = Field(default=30.0, ge=0)
    """Days between the deletion of an execution and the purge of its log."""


class ArchiveSettings(Group):
    """When lines become durable."""

    flush_after_seconds: float = Field(default=FLUSH_AFTER_SECONDS, gt=0)
    """Lines wait at most this long in Redis alone; the worker keeps them until then."""


class LogsSettings(ServiceSettings):
    """Everything that log-relay is told."""

    model_config = service_config("logs")

    database: DatabaseSettings
    redis: RedisSettings
    keys: KeySettings
    store: StoreConfig
    token_pepper_file: Path
    """The gateway's pepper: user tokens are looked up by their keyed hash."""
    archive: ArchiveSettings = ArchiveSettings()
    retention: RetentionSettings = RetentionSettings()
