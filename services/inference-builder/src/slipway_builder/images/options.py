"""What image builders are made with."""

from dataclasses import dataclass, field
from pathlib import Path

from slipway_builder.targets.kubernetes.settings import KubernetesTargetSettings
from slipway_kit.egress import EgressRules


@dataclass(frozen=True)
class BuilderOptions:
    """The same for every builder; each takes what it needs."""

    work_dir: Path | None = None
    """Where temporary files lie: room for the unpacked code, and for `docker` for the chosen files too."""
    egress: EgressRules | None = field(default_factory=EgressRules)
    """Which registries of base images may be reached. The registry of the target is the operator's own."""
    docker_socket: Path = Path("/var/run/docker.sock")
    docker_network: str = ""
    """The network in which requirements are installed; empty = the engine's own choice."""
    cluster: KubernetesTargetSettings | None = None
    """The cluster of the target, where it is one: `buildkit` runs its jobs there."""
    installation: str = ""
    """Tells this platform's build containers from those of others on the same engine."""
    dependencies: bool = True
    """Whether `append` may resolve requirements itself, where all are wheels without compiled code."""
