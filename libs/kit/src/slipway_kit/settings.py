"""Settings: every service reads `SLIPWAY_<SERVICE>__<GROUP>__<KEY>` from its environment."""

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from slipway_kit.errors.validation import field_name, problem_of


class SettingsError(Exception):
    """The environment does not hold usable settings; the message lists every variable and what to do."""


class Group(BaseModel):
    """Base of setting groups: frozen, and a misspelled key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DatabaseSettings(Group):
    """Postgres of the service, with the role of the service."""

    url: SecretStr
    pool_size: int = Field(default=8, ge=1)


class RedisSettings(Group):
    """Redis or Valkey."""

    url: SecretStr


class HttpSettings(Group):
    """Where the apps of a service listen. No port: that app is not served. Port 0: the system picks one."""

    host: str = "127.0.0.1"
    public_port: int | None = Field(default=None, ge=0, le=65535)
    workers_port: int | None = Field(default=None, ge=0, le=65535)
    internal_port: int | None = Field(default=None, ge=0, le=65535)


class KeySettings(Group):
    """The service's own Ed25519 key and the folder with the public keys of those that may call it."""

    private_key_file: Path
    trusted_keys_dir: Path


class NeighbourSettings(Group):
    """Base URLs of the internal apps of the other services."""

    gateway: str | None = None
    scheduler: str | None = None
    logs: str | None = None
    builder: str | None = None


class LogSettings(Group):
    """What is logged (`level`) and how (`json`: one object a line, else lines for people)."""

    level: str = "INFO"
    json_lines: bool = Field(default=True, alias="json")


def service_config(service: str) -> SettingsConfigDict:
    """Return the `model_config` of a service's settings class."""
    return SettingsConfigDict(
        env_prefix=f"SLIPWAY_{service.upper().replace('-', '_')}__",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )


class ServiceSettings(BaseSettings):
    """Base of every service's settings; a subclass sets `model_config = service_config("<service>")`."""

    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="forbid", frozen=True)

    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises `SettingsError` that names each missing, wrong or unknown variable."""
        prefix = cls.model_config.get("env_prefix", "")
        problems = [
            f"  {name}: not a setting of this service; remove it or correct its name."
            for name in sorted(os.environ)
            if prefix
            and name.upper().startswith(prefix)
            and name.upper().removeprefix(prefix).split("__")[0].lower() not in cls.model_fields
        ]
        try:
            settings = cls()
        except ValidationError as error:
            for one in error.errors():
                variable = prefix + field_name(one["loc"]).upper().replace(".", "__")
                problems.append(f"  {variable}: {problem_of(one).message}")
            raise SettingsError(_explain(problems)) from None
        if problems:
            raise SettingsError(_explain(problems))
        return settings


def _explain(problems: list[str]) -> str:
    return "The settings in the environment cannot be used:\n" + "\n".join(problems)
