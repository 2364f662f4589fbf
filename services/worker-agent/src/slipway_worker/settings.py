"""Settings of the worker: `SLIPWAY_WORKER__<GROUP>__<KEY>`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from slipway_kit.settings import Group, ServiceSettings, service_config
from slipway_runtime.runtimes.docker_network import OWN_NETWORK
from slipway_worker.machine.preemption import ProviderName

RuntimeName = Literal["auto", "docker", "process", "fake"]


class CacheSettings(Group):
    """The cache of input files. Above `high_water` times `max_bytes` the oldest go, down to `low_water` times it."""

    max_bytes: int = Field(default=100 * 1024**3, ge=0)
    high_water: float = Field(default=0.9, gt=0, le=1)
    low_water: float = Field(default=0.7, gt=0, le=1)


class DiskSettings(Group):
    """When the worker's disk counts as full: below the larger of both, no work is taken."""

    min_free_bytes: int = Field(default=1024**3, ge=0)
    min_free_share: float = Field(default=0.05, ge=0, lt=1)
    """Part of the whole disk."""
    patience_seconds: float = Field(default=600.0, ge=0)
    """How long what a run prints may wait for room on the disk before the run is ended."""


class UsageSettings(Group):
    """How often it is looked at what runs use."""

    first_seconds: float = Field(default=1.0, gt=0)
    """The first sample comes this long after the start."""
    interval_seconds: float = Field(default=10.0, ge=0.1)
    send_seconds: float = Field(default=30.0, ge=0)
    """Samples are gathered for this long before they are sent."""


class ContainerSettings(Group):
    """How containers are made."""

    socket: Path = Path("/var/run/docker.sock")
    """Of the engine."""
    network: str = OWN_NETWORK
    """`slipway` is made by the worker: on it runs reach neither each other nor the cloud's metadata service."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """Limit of a run whose step names none; None = what runs may use on this machine."""
    pids_limit: int = Field(default=4096, ge=16)
    """Processes and threads of one run."""
    userns: Literal["", "host"] = ""
    """`host` turns off the remapping of users, where the engine does it (`userns-remap`)."""
    mount_roots: tuple[Path, ...] = ()
    """Folders that steps may mount, or folders within, where the environment allows mounts."""
    hidden: tuple[Path, ...] = ()
    """Folders of the platform that no run may see. The worker's home and its token are always hidden."""
    ca_file: Path | None = None
    """Certificates that runs shall trust too; given to them by the usual variables."""
    pass_environment: tuple[str, ...] = ()
    """Names of the agent's own variables that runs get, such as proxies."""


class PreemptionSettings(Group):
    """Where a machine that may be taken back (spot, preemptible) learns of it."""

    provider: ProviderName = "none"
    endpoint: str | None = None
    """Where the metadata service answers, when not at its usual address; `file:///path` with `openstack`."""
    poll_seconds: float = Field(default=5.0, gt=0)


class WorkerSettings(ServiceSettings):
    """All settings of a worker."""

    model_config = service_config("worker")

    server_url: str
    """Origin of the platform's worker API."""
    group_token_file: Path
    """File with the token of the environment that this machine joins."""
    home: Path
    """Directory of the worker's state: identity, attempts, cache."""
    runtime: RuntimeName = "auto"
    slots: int = Field(default=1, ge=1)
    """Attempts side by side."""
    cpus: float | None = None
    memory_bytes: int | None = None
    """What runs may use; None = what the machine has."""
    patience_seconds: float = Field(default=300.0, gt=0)
    """How long an attempt waits for a neighbour before its user code has started; then it is given up."""
    cache: CacheSettings = CacheSettings()
    disk: DiskSettings = DiskSettings()
    usage: UsageSettings = UsageSettings()
    container: ContainerSettings = ContainerSettings()
    preemption: PreemptionSettings = PreemptionSettings()

    @property
    def hidden_paths(self) -> tuple[Path, ...]:
        """Everything of the platform on this machine: no run may see or mount it."""
        return (self.home, self.group_token_file, *self.container.hidden)
