"""What an administrator says of a cluster."""

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, model_validator

from slipway_schemas.base import StrictModel
from slipway_schemas.inference.versions import Toleration

ANY_NETWORK = "0.0.0.0/0"
_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


def _network(text: str) -> str:
    return str(ip_network(text))


class PullLogin(StrictModel):
    """How the cluster's nodes log in to the inference registry."""

    registry: str
    """`host[:port]`, as image references name it."""
    username: str
    password: SecretStr


class BuildSettings(StrictModel):
    """Where the builder `buildkit` runs its jobs, and what they may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="slipway-builds", pattern=_NAME)
    """Of the jobs alone: BuildKit without root still needs more than the pod security levels baseline and restricted
    allow."""
    image: str = "docker.io/moby/buildkit:v0.33.1-rootless"
    """Has BuildKit for the user 1000, as the rootless images of the project do."""
    cpu_request: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    memory_request_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    memory_limit_bytes: int | None = Field(default=None, ge=1)
    disk_bytes: int | None = Field(default=None, ge=1)
    """What a job may write on its node's disk; None = as much as the node has."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    start_seconds: int = Field(default=300, ge=1)
    """How long a job may wait for a node and for its image."""
    run_seconds: int = Field(default=3600, ge=10)
    """How long it may take after that."""


class KubernetesTargetSettings(StrictModel):
    """One cluster, or one namespace of it, that serves endpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(pattern=_NAME)
    """Holds all endpoints of the target. It must exist, and be Slipway's alone."""
    kubeconfig: SecretStr | None = None
    """Text of a kubeconfig with its credentials inside; None = the account of the pod that Slipway runs in."""
    context: str | None = None
    """The kubeconfig's context; None = its current one."""
    pull: PullLogin | None = None
    storage_class: str | None = None
    """For workspace volumes that name none; None = the cluster's default."""
    cpu_request: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """CPUs reserved for a replica whose endpoint names no minimum."""
    memory_request_bytes: int = Field(default=0, ge=0)
    """Memory reserved for a replica whose endpoint names no minimum."""
    memory_limit_bytes: int | None = Field(default=None, ge=1)
    """Limit of a replica whose endpoint names no maximum; None = none."""
    max_replicas: int = Field(default=20, ge=1)
    """What an endpoint may ask for at most."""
    node_selector: dict[str, str] = {}
    """Added to every endpoint's own; wins where both name a label."""
    tolerations: tuple[Toleration, ...] = ()
    root_allowed: tuple[str, ...] = ()
    """Paths below which endpoints run as their image's own user, root too: `/owner`, `/owner/project`, ..."""
    network_policy: bool = True
    """Whether only the routers may connect to endpoints."""
    allow_from: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Networks that may connect besides the router pods: routers that run outside of the cluster."""
    start_seconds: int = Field(default=600, ge=10)
    """How long a replica may take until it accepts connections, before it is started again."""
    drain_seconds: int = Field(default=5, ge=0)
    """How long a replica that is going away still answers, so that every router has heard of it."""
    stop_seconds: int = Field(default=30, ge=1)
    """How long a server may take to finish its requests after that."""
    scale_down_seconds: int = Field(default=300, ge=0, le=3600)
    """How long the load must have been low before replicas are taken away, and the last one of an endpoint that sleeps
    while nobody asks."""
    router_load: tuple[Annotated[str, Field(pattern=r"^https?://[^\s/]+$")], ...] = ()
    """Where KEDA asks the routers for their load, one origin each: the health ports of routers outside of the cluster.
    Empty = the router pods of this namespace, by the Service of `router.yaml`."""
    builds: BuildSettings | None = None
    """For the image builder `buildkit`; None = no builds in this cluster."""
    request_seconds: float = Field(default=10.0, gt=0)
    """Time-out of one call to the cluster."""

    @model_validator(mode="after")
    def _drop_slashes(self) -> Self:
        for path in self.root_allowed:
            if not path.startswith("/"):
                raise ValueError(f"root_allowed: {path!r} is no path; begin with a slash, as in /owner/project")
        return self

    def allows_root(self, prefix: str) -> bool:
        """Whether an endpoint with this prefix may run as root."""
        return any(f"{prefix}/".startswith(f"{path.rstrip('/')}/") for path in self.root_allowed)
