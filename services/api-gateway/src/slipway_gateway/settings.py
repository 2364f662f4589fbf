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


class UploadSettings(Group):
    """What happens to uploads that nobody completes."""

    abandoned_after: timedelta = Field(default=timedelta(hours=24), ge=timedelta(minutes=1))
    """Uploads of people, parts that belong to no upload, and half-written files go after this. Uploads of executions
    that have not ended stay, however long their worker waits for the store."""
    sweep_every: timedelta = Field(default=timedelta(minutes=10), ge=timedelta(seconds=1))
    """How often each object store is looked through for them."""


class InferenceSettings(Group):
    """What versions of deployments may hold."""

    max_file_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Size of a file that an endpoint bakes into its image; one that is larger is refused at creation."""


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
    uploads: UploadSettings = UploadSettings()
    inference: InferenceSettings = InferenceSettings()
    upload_dir: Path | None = None
    """Where request bodies wait until they are stored; None = the system's folder for temporary files."""
