"""Settings of a router: `SLIPWAY_ROUTER__<KEY>`."""

import socket
from pathlib import Path
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

EngineName = Literal["auto", "haproxy", "relay"]


class SettingsError(Exception):
    """The environment does not hold usable settings; the message lists every variable."""


class TimeoutSettings(BaseModel):
    """How long a router waits, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect: float = Field(default=5.0, gt=0)
    """For an endpoint's server to take a connection."""
    wake: float = Field(default=120.0, gt=0, le=3600)
    """For that of an endpoint that may be asleep: until a replica of it runs."""
    answer: float = Field(default=600.0, gt=0)
    """For a prediction's answer, and between its bytes."""
    head: float = Field(default=30.0, gt=0)
    """For the headers of a request."""
    keep_alive: float = Field(default=75.0, gt=0)
    """For the next request on a kept connection."""
    tunnel: float = Field(default=3600.0, gt=0)
    """Between messages on a websocket."""


class RouterSettings(BaseSettings):
    """Everything that a router is told. Ports are TCP ports of `host` and `health_host`."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_ROUTER__", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    builder_url: str
    """Origin of inference-builder's internal API."""
    token_file: Path
    """File with the token that the builder knows; read again for each call."""
    target_id: UUID
    router_id: str = Field(default_factory=socket.gethostname, min_length=1, max_length=100)
    """Unique among the routers of a target, the same after a restart."""
    state_dir: Path
    """Private directory: the last table, HAProxy's configuration and sockets."""
    engine: EngineName = "auto"
    """`auto` = HAProxy where it is installed, else the relay."""
    host: str = "127.0.0.1"
    port: int = Field(default=8088, ge=1, le=65535)
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8089, ge=1, le=65535)
    tls_certificate: Path | None = None
    """PEM file with certificate, chain and private key; None = plain HTTP."""
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Networks of proxies in front, whose X-Forwarded-* headers are believed."""
    threads: int = Field(default=0, ge=0, le=64)
    """HAProxy's threads; 0 = one for each CPU."""
    max_connections: int = Field(default=8192, ge=16)
    report_seconds: float = Field(default=5.0, gt=0, le=30)
    """How long the builder may hold a call; counts of requests go up as often."""
    patience_seconds: float = Field(default=5.0, ge=0)
    """How long a router that starts waits for the builder before it serves by the table of its last life."""
    timeouts: TimeoutSettings = TimeoutSettings()
    log_level: str = "INFO"
    log_json: bool = True

    @classmethod
    def load(cls) -> Self:
        """Read the environment. Raises `SettingsError`."""
        try:
            return cls()
        except ValidationError as error:
            problems = [
                f"  SLIPWAY_ROUTER__{'__'.join(str(part) for part in one['loc']).upper()}: {one['msg']}"
                for one in error.errors()
            ]
            raise SettingsError("The settings in the environment cannot be used:\n" + "\n".join(problems)) from None
