"""Settings of the gateway, read from `SLIPWAY_GATEWAY__<GROUP>__<KEY>`."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from slipway_kit.egress import Network
from slipway_kit.settings import (
    DatabaseSettings,
    Group,
    KeySettings,
    NeighbourSettings,
    RedisSettings,
    ServiceSettings,
    service_config,
)
from slipway_storage.config import StoreConfig


class GitSettings(Group):
    """Where mirrors of repositories are kept, and what a fetch may do."""

    cache_dir: Path
    """Bare mirrors and the known host keys. A cache: it may be deleted."""
    allow_local_paths: tuple[Path, ...] = ()
    """Folders on this machine whose repositories projects may link. Empty = none."""
    fetch_timeout: timedelta = timedelta(minutes=10)


class EgressSettings(Group):
    """Which networks the control plane may reach at addresses that users give."""

    allow_control_plane: tuple[Network, ...] = ()
    """Networks beyond the public internet, such as `127.0.0.0/8`."""


class GatewaySettings(ServiceSettings):
    """All settings of the gateway."""

    model_config = service_config("gateway")

    database: DatabaseSettings
    redis: RedisSettings
    keys: KeySettings
    neighbours: NeighbourSettings = NeighbourSettings()
    public_url: str = Field(pattern=r"^https?://[^/]+/?$")
    """Origin under which clients and browsers reach the platform."""
    worker_url: str | None = None
    """Origin under which workers reach it, where that differs."""
    secret_key_file: Path
    """32 random bytes, raw or in hex: encrypts secrets at rest. A new key in its place is used from then on."""
    older_secret_keys_dir: Path | None = None
    """Keys that secrets are still read with, one a file, until `secrets rotate` has run."""
    token_pepper_file: Path
    """Text of at least 32 characters: the key of the token hashes."""
    store: StoreConfig
    """Object store of code archives and data."""
    git: GitSettings
    egress: EgressSettings = EgressSettings()
    upload_dir: Path | None = None
    """Where request bodies wait until they are stored; None = the system's folder for temporary files."""
