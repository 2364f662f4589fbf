"""What every kind of target can do."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from slipway_schemas.inference.statuses import Problem, TargetKind
from slipway_schemas.inference.versions import EndpointSpec, Scale


@dataclass(frozen=True, slots=True)
class EndpointRevision:
    """All that a target needs to serve one endpoint of one version; equal revisions make equal objects."""

    endpoint_id: UUID
    generation: int
    """Grows with every change of what is wanted."""
    version_id: UUID
    deployment_id: UUID
    project_id: UUID
    owner: str
    project: str
    deployment: str
    version: str
    """Slugs and names, for labels that a person reads in the cluster."""
    image: str
    """Reference by digest."""
    command: tuple[str, ...]
    spec: EndpointSpec
    scale: Scale
    environment: Mapping[str, str]
    """Plain variables, the platform's own included."""
    secret_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    proven: bool = False
    """A replica was ready once since the endpoint was enabled: it may sleep, if its scale says so."""

    @property
    def prefix(self) -> str:
        """Path of the endpoint by the version's name; `VH_DEFAULT_PREFIX` (contract 4.5)."""
        return f"/{self.owner}/{self.project}/{self.deployment}/{self.version}/{self.spec.name}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a router of the target reaches an endpoint."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target says of one endpoint."""

    endpoint_id: UUID
    generation: int
    """The generation that was observed; older than the wanted one = still rolling out."""
    wanted: int
    ready: int
    address: Address | None = None
    problem: Problem | None = None
    detail: str = ""
    """Plain words, for the endpoint's owner."""
    last_lines: tuple[str, ...] = ()
    """The last lines of a replica that does not serve."""
    restarts: int = 0
    drifted: bool = False
    """Others have changed, stopped or deleted something of it since it was applied."""


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """One thing that a target must be able to do."""

    name: str
    ok: bool
    message: str = ""
    """How to mend it."""


@dataclass(frozen=True, slots=True)
class ReplicaLine:
    """A line that a replica wrote."""

    replica: str
    at: datetime
    stream: str
    """`stdout` or `stderr`, or `stdout` where the target does not tell them apart."""
    text: bytes


class Target(Protocol):
    """A cluster or a host. All calls may be repeated; none blocks longer than its own time-outs.

    Raise `Unavailable` when the target does not answer, `Invalid` when it refuses a revision for what it says.
    """

    @property
    def kind(self) -> TargetKind:
        """Its kind."""
        ...

    async def check(self) -> tuple[TargetCheck, ...]:
        """Test the connection and every right that is needed; changes nothing."""
        ...

    async def apply(self, revision: EndpointRevision) -> None:
        """Make it so, without waiting until it serves; corrects what others have changed."""
        ...

    async def remove(self, endpoint_id: UUID) -> None:
        """Leave nothing of the endpoint behind."""
        ...

    async def observe(self) -> Mapping[UUID, Observation]:
        """Everything of this installation that is on the target, also what nobody wants any more."""
        ...

    def logs(
        self, endpoint_id: UUID, *, since: datetime, known: Mapping[str, datetime] | None = None
    ) -> AsyncGenerator[ReplicaLine, None]:
        """Lines of all replicas from `since` on, and of those in `known` from the time there on.

        Goes on until the caller stops reading, or ends when no replica is left. A line that is told again has the
        same time and comes after the same lines of its replica, as long as the target still has it.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; what serves goes on."""
        ...
