"""Deployments and versions between the gateway, which reads requests, and inference-builder, which owns them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from slipway_schemas.base import JsonObject, StrictModel, WireModel
from slipway_schemas.executions import CodeRef, EnvironmentVariable
from slipway_schemas.inference.statuses import ImageStatus, TargetKind
from slipway_schemas.names import Slug
from slipway_schemas.storable import Natural32, Natural64, Storable

DEFAULT_PORT = 8000
"""Contract 4.4."""


class Bounds(WireModel):
    """A minimum (what is reserved) and a maximum (the limit) of one resource."""

    min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class EndpointResources(WireModel):
    """What one replica needs: CPUs, memory and disk in bytes, devices by the cluster's name for them."""

    cpu: Bounds = Bounds()
    memory_bytes: Bounds = Bounds()
    ephemeral_storage_bytes: Bounds = Bounds()
    devices: dict[str, int] = {}


class Toleration(WireModel):
    """A node taint that an endpoint's pods tolerate."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class WorkspaceVolume(WireModel):
    """A volume of each replica that goes with it."""

    mount_path: str
    size_gib: int = Field(ge=1)
    storage_class: str | None = None


class SharedVolume(WireModel):
    """An existing volume claim that all replicas mount."""

    claim: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool = False


class EndpointFile(WireModel):
    """A datum that is baked into the image at `path`, relative to the code directory, whatever its own name."""

    name: str
    path: str
    datum_id: UUID
    datum_name: str
    size: Natural64 | None = None
    sha256: str | None = None


class EndpointSpec(WireModel):
    """An endpoint as `valohai.yaml` has it, with the chosen files (contract 2.2, 4.4)."""

    name: str
    image: str
    server_command: tuple[str, ...] = ()
    """Lines of shell; empty when `wsgi` is given."""
    wsgi: str | None = None
    port: int = Field(default=DEFAULT_PORT, ge=1025, le=65535)
    description: str = ""
    files: tuple[EndpointFile, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    resources: EndpointResources = EndpointResources()
    workspace_volume: WorkspaceVolume | None = None
    shared_volumes: tuple[SharedVolume, ...] = ()


class Scale(Storable, WireModel):
    """How many replicas: exactly `replicas`, or between it and `replicas_max` by CPU use.

    Between 0 and `replicas_max`: none while nobody asks; a request starts one and waits for it.
    """

    replicas: Natural32 = 1
    replicas_max: Natural32 | None = None
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """The use of the reserved CPU above which replicas are added."""

    @property
    def to_zero(self) -> bool:
        """Whether the endpoint sleeps while nobody asks."""
        return self.replicas == 0 and bool(self.replicas_max)


class EndpointDraft(WireModel):
    """An endpoint of a new version."""

    spec: EndpointSpec
    enabled: bool = True
    scale: Scale = Scale()


class DeploymentDraft(Storable, StrictModel):
    """A new deployment; its id is picked by the gateway, so sending it again creates nothing twice."""

    id: UUID
    project_id: UUID
    owner_id: Natural32
    creator_id: Natural32
    name: str
    path: str
    """`/<owner>/<project>`: the beginning of every URL of the deployment, fixed when it is made."""
    target: UUID | str | None = None
    """Id or name of the target; None = the default one."""
    public: bool = False


class VersionDraft(Storable, StrictModel):
    """A new version; its id is picked by the gateway."""

    id: UUID
    deployment_id: UUID
    project_id: UUID
    name: str | None = None
    """None = the next name of the day."""
    creator_id: Natural32
    creator_name: str
    code: CodeRef
    enabled: bool = True
    environment_variables: dict[str, EnvironmentVariable] = {}
    """All that the pods get, the project's included when they are inherited; secrets as references."""
    own_variables: dict[str, str] = {}
    """What the request named, as the version object shows it."""
    endpoints: tuple[EndpointDraft, ...] = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    """Moved to this version when it is ready."""
    metadata: JsonObject = {}
    """The parts of `valohai-metadata.json` that the gateway knows: project and commit (contract 4.4)."""


class DeploymentChange(Storable, StrictModel):
    """Changes of a deployment; what is None stays."""

    enabled: bool | None = None
    public: bool | None = None


class EndpointChange(Storable, StrictModel):
    """Changes of an endpoint; what is None stays."""

    enabled: bool | None = None
    scale: Scale | None = None


class VersionChange(Storable, StrictModel):
    """Changes of a version; what is None stays."""

    enabled: bool | None = None


class AliasMove(Storable, StrictModel):
    """Point an alias at a version, making the alias if there is none of that name."""

    version_id: UUID
    canary_version_id: UUID | None = None
    canary_percent: int = Field(default=0, ge=0, le=100)
    sticky: bool = True
    """Whether a client that once met the canary meets it again."""
    max_error_percent: float | None = Field(default=None, gt=0, le=100)
    """The alias goes back by itself when more of the new version's answers are errors of the server."""
    max_latency_ms: float | None = Field(default=None, gt=0)
    """The alias goes back by itself when the new version's mean latency is above this."""
    reason: str = ""


class AliasMoved(WireModel):
    """What a move did."""

    id: UUID
    name: str
    version_id: UUID
    previous_version_id: UUID | None = None
    revision: int
    """Revision of the target's routing table that carries the move."""
    confirmed_routers: int = 0
    unconfirmed_routers: tuple[str, ...] = ()
    """Routers that have not said within the wait that they have it."""
    confirmed_ms: float | None = None


class Created(WireModel):
    """The id and the name of what was made."""

    id: UUID
    name: str


class NameSuggestion(WireModel):
    """A free version name."""

    name: str


class KeyDraft(Storable, StrictModel):
    """A new key of a consumer: for a whole deployment, or for some of its endpoints."""

    id: UUID
    deployment_id: UUID
    consumer: str
    creator_id: Natural32
    key_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the key: a random value of 256 bits, so a plain hash cannot be searched."""
    endpoints: tuple[str, ...] = ()
    """Names of endpoints; empty = all."""
    expires_at: datetime | None = None
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    hidden: bool = False
    """For one test call: in no list, and deleted after its end. It needs an end."""


class InferenceMaterialsRequest(Storable, StrictModel):
    """What the builder asks of the gateway to build or to run a version."""

    project_id: UUID
    code: CodeRef | None = None
    datum_ids: tuple[UUID, ...] = ()
    environment_variables: dict[str, EnvironmentVariable] = {}


class FileMaterial(WireModel):
    """Where a file can be read for 15 minutes."""

    datum_id: UUID
    url: str
    size: int | None = None
    sha256: str | None = None


class InferenceMaterials(WireModel):
    """Code, files and the values of variables; URLs live 15 minutes."""

    code_url: str | None = None
    code_sha256: str | None = None
    code_size: int | None = None
    code_format: Literal["tar.zst", "tar.gz"] = "tar.zst"
    files: tuple[FileMaterial, ...] = ()
    environment: dict[str, str] = {}


class EndpointLine(WireModel):
    """A line that a replica wrote."""

    at: datetime
    replica: str
    stream: str = "stdout"
    text: str


class EndpointLines(WireModel):
    """Lines of all replicas of an endpoint, by time."""

    lines: tuple[EndpointLine, ...]
    next: str = ""
    """Where the live stream goes on: its `from`."""


class BuildLogPage(WireModel):
    """Lines of a build."""

    lines: tuple[str, ...]
    next: int
    status: ImageStatus
    detail: str = ""


PUBLIC_URL = r"^https?://[^\s/]+[^\s]*$"


class TargetDraft(Storable, StrictModel):
    """A new deployment target."""

    name: Slug
    kind: TargetKind
    public_url: str = Field(pattern=PUBLIC_URL, max_length=500)
    is_default: bool = False
    settings: JsonObject = {}


MASK = "********"
"""Stands for a secret in the settings of a target."""


class TargetChange(Storable, StrictModel):
    """Changes of a target; what is None stays."""

    public_url: str | None = Field(default=None, pattern=PUBLIC_URL, max_length=500)
    is_default: bool | None = None
    settings: JsonObject | None = None
    """All of them; a masked secret stays what it was."""


class TargetDetail(WireModel):
    """A target with its settings, in which secrets are masked."""

    id: UUID
    settings: JsonObject


class TargetCreated(WireModel):
    """A target and the token with which its routers ask for its table; shown this once."""

    id: UUID
    router_token: str


class TargetCheckView(WireModel):
    """One thing that a target must be able to do."""

    name: str
    ok: bool
    message: str = ""


class TargetChecks(WireModel):
    """What a connection test found."""

    checks: tuple[TargetCheckView, ...]


class CleanUpReport(WireModel):
    """What a clean-up of a target's images has deleted, or would delete."""

    deleted: tuple[str, ...]
    kept: int
    """Images that are needed."""
    dry_run: bool


class TargetView(WireModel):
    """A target without its secrets."""

    id: UUID
    name: str
    kind: TargetKind
    public_url: str
    is_default: bool
