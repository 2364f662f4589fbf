"""Settings of inference-builder: `SLIPWAY_BUILDER__…`."""

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


class ProcessTargetSettings(Group):
    """What this installation adds to targets of the kind `process`."""

    home: Path
    ends_with_builder: bool = False
    """Stop all servers when the builder stops in order, as on one machine that is switched off."""
    hidden: tuple[Path, ...] = ()
    """Folders of the platform that no server may see."""


class DockerTargetSettings(Group):
    """What this installation adds to targets of the kind `docker`."""

    socket: Path = Path("/var/run/docker.sock")
    installation: str
    """Tells this platform's containers from those of others on the same engine."""
    ends_with_builder: bool = False
    """Delete all containers when the builder stops in order, as on one machine that is switched off."""
    network: str = ""
    """Docker network of endpoints and builds; empty = the engine's own choice."""


class UpkeepSettings(Group):
    """How often the builder tidies up."""

    left_overs_seconds: float = Field(default=60.0, ge=0.5)
    """Folders and containers of builders that were killed."""
    clean_up_seconds: float = Field(default=3600.0, ge=1)
    """Images and bundles that no version needs."""


class BuilderSettings(ServiceSettings):
    """Everything that inference-builder is told."""

    model_config = service_config("builder")

    database: DatabaseSettings
    redis: RedisSettings
    keys: KeySettings
    neighbours: NeighbourSettings = NeighbourSettings()
    secret_key_file: Path
    """32 random bytes, raw or in hex: settings of targets are encrypted with it."""
    older_secret_keys_dir: Path | None = None
    """Keys that are only read with."""
    work_dir: Path
    """Where the code of a version lies while its image is built."""
    builds: int = Field(default=2, ge=1, le=64)
    """Images that one process builds at a time."""
    lease_seconds: float = Field(default=15.0, ge=1)
    """After so long without a sign of life another builder goes on with what one has begun."""
    process: ProcessTargetSettings | None = None
    """None = this installation serves no endpoints as processes."""
    docker: DockerTargetSettings | None = None
    """None = this installation serves no endpoints by a Docker engine."""
    upkeep: UpkeepSettings = UpkeepSettings()
    keep_counts_days: int = Field(default=90, ge=1)
