"""What the agent asks of a container runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from slipway_runtime.layout import AttemptLayout, ExitRecord, RunLimits, ShimSpec
from slipway_runtime.paths import ContainerPaths


@dataclass(frozen=True)
class RuntimeInfo:
    """Whether a runtime can be used here; when not, `reason` says why and how to change that."""

    available: bool
    version: str = ""
    reason: str = ""


@dataclass(frozen=True)
class RegistryAuth:
    """Credentials of an image registry."""

    registry: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class UserMount:
    """A mount that the step asks for. The caller has checked that the environment allows it."""

    source: str
    destination: str
    readonly: bool = False


@dataclass(frozen=True)
class ResourceLimits:
    """What a run may use. None = no limit."""

    cpus: float | None = None
    cpu_set: str | None = None
    """Cores by number, as in `0,2-3`."""
    memory_bytes: int | None = None
    pids: int = 4096
    gpus: tuple[str, ...] | Literal["all"] = ()
    """Ids of the GPUs that the run sees."""


@dataclass(frozen=True)
class AttemptPlan:
    """All that a runtime needs to know about an attempt."""

    attempt_id: str
    execution_id: str
    layout: AttemptLayout
    image: str
    command: str
    """The interpolated command: one script, or a text that begins with a shebang."""
    environment: Mapping[str, str] = field(repr=False)
    """All variables of the run, secrets included (`environment.container_environment`)."""
    resources: ResourceLimits = ResourceLimits()
    limits: RunLimits = field(default_factory=RunLimits)
    network: str = "bridge"
    """Name of the container network, `host` or `none`; the process runtime always uses the machine's."""
    mounts: tuple[UserMount, ...] = ()


@dataclass(frozen=True)
class PreparedAttempt:
    """Ready to start. `notices` are status lines for the user."""

    spec: ShimSpec
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunState:
    """What the runtime itself says about an attempt's run."""

    exists: bool
    running: bool
    exit_code: int | None = None


@dataclass(frozen=True)
class RunUsage:
    """What a run uses of the machine, and has used so far. None = nobody tells."""

    source: str
    """Who tells, in words."""
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memory_limit_hits: int | None = None
    """How often memory was wanted beyond the limit."""
    oom_kills: int | None = None
    """Processes of the run that the kernel has killed for want of memory."""
    processes: int | None = None
    processes_limit: int | None = None
    processes_refused: int | None = None
    """How often a process was not started because of the limit."""


class RunHandle(Protocol):
    """A started attempt."""

    def exit_record(self) -> ExitRecord | None:
        """How the run ended; None while it goes on."""

    def alive(self) -> bool:
        """Whether somebody looks after the run."""

    async def stop(self, reason: str = "stopped") -> None:
        """Ask the run to end; the second call ends it now."""

    async def kill(self) -> None:
        """End the run now."""

    async def wait(self) -> ExitRecord:
        """Wait for the end."""


Launcher = Callable[[AttemptLayout, ShimSpec], "RunHandle"]
PullProgress = Callable[[str], None]
"""Called with a line of text about the pull."""


class ContainerRuntime(Protocol):
    """One way to run attempts on this machine."""

    name: str

    @property
    def launcher(self) -> Launcher | None:
        """Starts a prepared attempt without a shim; None = the agent starts a shim for it."""

    def paths(self, layout: AttemptLayout) -> ContainerPaths:
        """Where the run will find its files."""

    async def check(self) -> RuntimeInfo:
        """Whether this runtime can be used now."""

    async def image_present(self, image: str) -> bool:
        """Whether the image is on this machine."""

    async def pull(self, image: str, auth: RegistryAuth | None, progress: PullProgress) -> None:
        """Get the image; raises `ImageMissing`, `ImageDenied`, `RegistryUnreachable`, `RuntimeUnavailable`."""

    async def prepare(self, plan: AttemptPlan) -> PreparedAttempt:
        """Write the control files and make what will be started. Doing it again replaces what was made."""

    async def inspect(self, attempt_id: str) -> RunState:
        """Ask for a run, by the engine's own knowledge where there is an engine."""

    async def usage(self, attempt_id: str, layout: AttemptLayout) -> RunUsage | None:
        """What the run uses; after its end what it has used, where that is still known. Raises nothing."""

    async def cleanup(self, attempt_id: str) -> None:
        """Remove what `prepare` made outside of the attempt's directory. Doing it again changes nothing."""

    async def aclose(self) -> None:
        """Let go of connections."""
