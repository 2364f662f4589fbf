"""What a store is made from. A discriminated union by `type`, so that a row or a setting can hold any of
them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from slipway_storage.keys import check_key

MIN_SIGNING_KEY_LENGTH = 32


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("give a URL that starts with http:// or https://")
    return value.rstrip("/")


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalStoreConfig(_Config):
    """A directory, served under signed URLs by `local_store_app`.

    `public_url` is the origin that people reach, `worker_url` the one that workers reach when it differs.
    """

    type: Literal["local"] = "local"
    id: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    path: Path
    signing_key: SecretStr
    public_url: str
    worker_url: str | None = None

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < MIN_SIGNING_KEY_LENGTH:
            raise ValueError(f"a signing key has at least {MIN_SIGNING_KEY_LENGTH} characters")
        return value

    @field_validator("public_url", "worker_url")
    @classmethod
    def _urls(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)


class S3StoreConfig(_Config):
    """A bucket of any S3-compatible service; Amazon's own when `endpoint_url` is not given.

    The services use `endpoint_url`. URLs are signed for `public_endpoint_url`, and for workers for
    `worker_endpoint_url`, where those are given. Custom endpoints are addressed by path.
    """

    type: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
    region: str = "us-east-1"
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    worker_endpoint_url: str | None = None
    access_key_id: SecretStr
    secret_access_key: SecretStr
    session_token: SecretStr | None = None
    prefix: str = ""

    @field_validator("endpoint_url", "public_endpoint_url", "worker_endpoint_url")
    @classmethod
    def _urls(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value)

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        trimmed = value.strip("/")
        return check_key(trimmed) if trimmed else ""


class MemoryStoreConfig(_Config):
    """Objects in this process, for tests. It signs nothing."""

    type: Literal["memory"] = "memory"


StoreConfig = Annotated[LocalStoreConfig | S3StoreConfig | MemoryStoreConfig, Field(discriminator="type")]
