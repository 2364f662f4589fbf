"""What inference-builder publishes, as values."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from slipway_schemas.inference.statuses import EndpointStatus
from slipway_schemas.inference.versions import EndpointSpec, Scale

_WORST_FIRST = (
    EndpointStatus.BUILD_FAILED,
    EndpointStatus.UNAVAILABLE,
    EndpointStatus.DEGRADED,
    EndpointStatus.CREATED,
    EndpointStatus.BUILDING_IMAGE,
    EndpointStatus.DEPLOYING,
    EndpointStatus.AVAILABLE,
    EndpointStatus.DISABLED,
)


@dataclass(frozen=True)
class Target:
    """A cluster or a host that serves endpoints under a public address."""

    id: UUID
    name: str
    kind: str
    public_url: str
    is_default: bool
    unreachable_since: datetime | None
    problem: str
    """Why it cannot be reached, if it cannot."""
    created_at: datetime


@dataclass(frozen=True)
class Deployment:
    """A named group of versions on one target."""

    id: UUID
    project_id: UUID
    project_name: str
    project_slug: str
    owner_id: int
    owner_slug: str
    creator_id: int
    name: str
    path: str
    """`/<owner>/<project>` as it was when the deployment was made."""
    target_id: UUID
    target_name: str
    target_kind: str
    public_url: str
    enabled: bool
    public: bool
    created_at: datetime
    modified_at: datetime

    def url_of(self, segment: str, endpoint: str) -> str:
        """Address of an endpoint by version or alias (contract 4.1)."""
        parts = "/".join(quote(one, safe="") for one in (self.name, segment, endpoint))
        return f"{self.public_url.rstrip('/')}{self.path}/{parts}"


@dataclass(frozen=True)
class Image:
    """The image of an endpoint and how far it is."""

    id: UUID
    status: str
    detail: str
    reference: str | None
    digest: str | None
    base: str
    builder: str | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Endpoint:
    """One HTTP server of a version."""

    id: UUID
    version_id: UUID
    deployment_id: UUID
    name: str
    spec: EndpointSpec
    enabled: bool
    status: EndpointStatus
    status_detail: str
    replicas_ready: int
    replicas_wanted: int
    scale: Scale
    image_id: UUID | None
    problem: str | None
    """Why replicas do not serve, as a word of the platform."""
    restarts: int
    last_lines: tuple[str, ...]
    """The last lines of a replica that does not serve."""
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True)
class CommitFacts:
    """The commit of a version, as far as its row is still there."""

    identifier: str
    ref: str
    adhoc: bool
    commit_time: datetime
    description: str
    has_config: bool


@dataclass(frozen=True)
class Version:
    """One commit with chosen files, served by its endpoints."""

    id: UUID
    deployment: Deployment
    name: str
    creator_id: int
    creator_name: str
    commit: CommitFacts
    enabled: bool
    own_variables: dict[str, str]
    created_at: datetime
    modified_at: datetime
    endpoints: tuple[Endpoint, ...]

    @property
    def effective_enabled(self) -> bool:
        """Whether its endpoints may run: a disabled deployment runs none."""
        return self.enabled and self.deployment.enabled

    @property
    def status(self) -> EndpointStatus:
        """The worst status among its endpoints; disabled ones count only where all are."""
        return min((one.status for one in self.endpoints), key=_WORST_FIRST.index, default=EndpointStatus.DISABLED)

    @property
    def status_text(self) -> str:
        """Share of ready replicas and status in words, such as `100% - Available`, which asleep it is too."""
        wanted = sum(one.replicas_wanted for one in self.endpoints if one.enabled)
        ready = sum(min(one.replicas_ready, one.replicas_wanted) for one in self.endpoints if one.enabled)
        percent = 100 if self.status is EndpointStatus.AVAILABLE else 100 * ready // wanted if wanted else 0
        return f"{percent}% - {self.status.value.replace('_', ' ').capitalize()}"


@dataclass(frozen=True)
class VersionLine:
    """A version as lists of a deployment name it."""

    id: UUID
    deployment_id: UUID
    name: str
    enabled: bool
    created_at: datetime


@dataclass(frozen=True)
class Alias:
    """A movable name of a version."""

    id: UUID
    deployment_id: UUID
    name: str
    version_id: UUID
    version_name: str
    canary_version_id: UUID | None
    canary_version_name: str | None
    canary_percent: int
    sticky: bool
    max_error_percent: float | None
    max_latency_ms: float | None
    modified_at: datetime


@dataclass(frozen=True)
class AliasMoveRecord:
    """One entry of the history of the aliases of a deployment."""

    id: UUID
    alias_name: str
    version_id: UUID | None
    """None: the alias was removed."""
    version_name: str | None
    previous_version_id: UUID | None
    previous_version_name: str | None
    canary_version_id: UUID | None
    canary_version_name: str | None
    canary_percent: int
    actor_id: int | None
    actor: str | None
    reason: str
    automatic: bool
    at: datetime


@dataclass(frozen=True)
class Key:
    """A consumer's key. Its value is known to nobody but the consumer."""

    id: UUID
    deployment_id: UUID
    consumer: str
    endpoints: tuple[str, ...]
    expires_at: datetime | None
    requests_per_minute: int | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    creator: str | None

    def usable(self, now: datetime) -> bool:
        """True while the key opens anything."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


@dataclass(frozen=True)
class Minute:
    """Requests of one endpoint through one route in one minute."""

    endpoint_id: UUID
    prefix: str
    minute: datetime
    requests: int
    server_errors: int
    client_errors: int
    latency_ms_sum: float
    latency_ms_max: float
    buckets: tuple[int, ...]
