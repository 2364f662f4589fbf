"""Runs attempts as containers of a Docker engine on this machine."""

import asyncio
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError

from slipway_runtime.command import SANDBOX_ENTRY_ROOT, EntryPaths
from slipway_runtime.control_files import write_control_files
from slipway_runtime.errors import (
    ContainerError,
    ImageDenied,
    ImageMissing,
    RegistryUnreachable,
    RuntimeUnavailable,
)
from slipway_runtime.layout import AttemptLayout, DockerSpec, ShimSpec
from slipway_runtime.paths import ContainerPaths
from slipway_runtime.runtimes.docker_network import ensure_own_network
from slipway_runtime.runtimes.protocol import (
    AttemptPlan,
    Launcher,
    PreparedAttempt,
    PullProgress,
    RegistryAuth,
    RunState,
    RuntimeInfo,
)

KEPT_CAPABILITIES: Final = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "SETUID",
    "SETGID",
    "KILL",
    "NET_BIND_SERVICE",
)
"""What a run may do as root; `apt-get install` needs these (design section 12, 'Container rights')."""

_NOT_FOUND: Final = 404
_CALL: Final = aiohttp.ClientTimeout(total=60.0)
_GUARDS_SECONDS: Final = 60.0
"""Readiness is asked for often; the guards of an engine seldom change."""
_PULL_SILENCE_SECONDS: Final = 300.0
_UNREACHABLE_WORDS: Final = (
    "no such host",
    "connection refused",
    "timeout",
    "timed out",
    "network is unreachable",
    "tls",
    "x509",
    "eof",
    "connection reset",
    "temporary failure",
    "server misbehaving",
    "service unavailable",
    "bad gateway",
    "toomanyrequests",
)


class DockerRuntime:
    """Talks to the engine's Unix socket; containers are named `slipway-<attempt id>`."""

    name = "docker"

    def __init__(
        self,
        socket: Path = Path("/var/run/docker.sock"),
        *,
        own_network: bool = False,
        userns: Literal["", "host"] = "",
    ) -> None:
        """`own_network`: make the network of runs. `userns`: `host` turns off the engine's remapping of users."""
        self._socket = socket
        self._own_network = own_network
        self._userns = userns
        self._notices: tuple[str, ...] = ()
        self._guards_due = 0.0
        self._client: aiodocker.Docker | None = None

    @property
    def launcher(self) -> Launcher | None:
        """Containers are looked after by a shim."""
        return None

    def paths(self, layout: AttemptLayout) -> ContainerPaths:
        """Always below `/valohai`."""
        return ContainerPaths()

    async def check(self) -> RuntimeInfo:
        """Ask the engine for its version and its guards; make the network of runs."""
        try:
            async with asyncio.timeout(20):
                version = await self._docker().version()
                now = asyncio.get_running_loop().time()
                if now > self._guards_due:
                    self._notices = await self._guards()
                    self._guards_due = now + _GUARDS_SECONDS
        except (DockerError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = f"no Docker engine answers on {self._socket} ({error}); start one, or use the process runtime"
            return RuntimeInfo(available=False, reason=reason)
        return RuntimeInfo(available=True, version=str(version["Version"]))

    async def image_present(self, image: str) -> bool:
        """Whether the engine has the image."""
        try:
            await self._docker().images.inspect(image)
        except DockerError as error:
            if error.status == _NOT_FOUND:
                return False
            raise _translated(error, image, credentials=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        return True

    async def pull(self, image: str, auth: RegistryAuth | None, progress: PullProgress) -> None:
        """Pull through the engine."""
        login: dict[str, Any] | None = None
        if auth is not None:
            login = {"username": auth.username, "password": auth.password, "serveraddress": auth.registry}
        try:
            stream = self._docker().images.pull(image, auth=login, stream=True)
            clock = asyncio.get_running_loop().time
            async with asyncio.timeout(_PULL_SILENCE_SECONDS) as silence:
                async for event in stream:
                    silence.reschedule(clock() + _PULL_SILENCE_SECONDS)
                    text = str(event.get("status", ""))
                    # Progress of single layers comes many times a second and tells nobody anything.
                    if text and "progressDetail" not in event:
                        progress(text)
        except DockerError as error:
            raise _translated(error, image, credentials=auth is not None) from error
        except TimeoutError as error:
            raise RegistryUnreachable(f"the pull of {image} made no progress for 5 minutes") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error

    async def prepare(self, plan: AttemptPlan) -> PreparedAttempt:
        """Create the container."""
        plan.layout.create()
        root = SANDBOX_ENTRY_ROOT
        entry = EntryPaths(root / "control", root / "pipes", root / "state", ContainerPaths().repository)
        notices = write_control_files(plan.layout, plan.command, plan.environment, entry)
        await self.cleanup(plan.attempt_id)
        try:
            container = await self._docker().containers.create(
                container_config(plan, entry, self._userns), name=_name(plan.attempt_id)
            )
        except DockerError as error:
            raise _translated(error, plan.image, credentials=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        spec = DockerSpec(str(self._socket), container.id)
        return PreparedAttempt(ShimSpec(plan.attempt_id, docker=spec, limits=plan.limits), (*self._notices, *notices))

    async def inspect(self, attempt_id: str) -> RunState:
        """Ask the engine."""
        try:
            container = await self._docker().containers.get(_name(attempt_id))
        except DockerError as error:
            if error.status == _NOT_FOUND:
                return RunState(exists=False, running=False)
            raise RuntimeUnavailable(f"the Docker engine refused to answer: {error.message}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        state = container["State"]
        ended = state["Status"] in {"exited", "dead"}
        return RunState(exists=True, running=state["Running"], exit_code=state["ExitCode"] if ended else None)

    async def cleanup(self, attempt_id: str) -> None:
        """Remove the container, running or not."""
        try:
            await self._docker().containers.container(_name(attempt_id)).delete(force=True, v=True)
        except DockerError as error:
            if error.status != _NOT_FOUND:
                raise RuntimeUnavailable(f"the container was not removed: {error.message}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error

    async def aclose(self) -> None:
        """Close the connection pool."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _guards(self) -> tuple[str, ...]:
        """Warnings for every run about guards that this engine lacks."""
        warnings = []
        options = (await self._docker().system.info()).get("SecurityOptions") or []
        if not any(option.startswith("name=seccomp") and "unconfined" not in option for option in options):
            warnings.append("WARNING: the engine does not filter system calls (seccomp): runs are less isolated.")
        if self._own_network and not await ensure_own_network(self._docker()):
            warnings.append(
                "WARNING: the cloud's metadata address is not blocked: the worker may not use iptables here."
            )
        return tuple(warnings)

    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            self._client = aiodocker.Docker(url=f"unix://{self._socket}", timeout=_CALL)
        return self._client

    def _unavailable(self, error: Exception) -> RuntimeUnavailable:
        return RuntimeUnavailable(f"the Docker engine on {self._socket} does not answer: {error}")


def container_config(plan: AttemptPlan, entry: EntryPaths, userns: str = "") -> dict[str, Any]:
    """The engine's description of an attempt's container. Holds no variable of the run, so no secret."""
    layout = plan.layout
    mounts = [
        *(_bind(layout.valohai / name, ContainerPaths().root / name) for name in ("repository", "inputs", "outputs")),
        _bind(layout.valohai / "config", ContainerPaths().config, readonly=True),
        _bind(layout.control, entry.control, readonly=True),
        _bind(layout.pipes, entry.pipes),
        _bind(layout.state, entry.state),
        *(_bind(Path(m.source), PurePosixPath(m.destination), readonly=m.readonly) for m in plan.mounts),
    ]
    host: dict[str, Any] = {
        "Mounts": mounts,
        "Init": True,
        "LogConfig": {"Type": "none"},
        "CapDrop": ["ALL"],
        "CapAdd": list(KEPT_CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": plan.resources.pids,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "UsernsMode": userns,
        "NetworkMode": plan.network,
    }
    resources = plan.resources
    if resources.memory_bytes:
        host |= {"Memory": resources.memory_bytes, "MemorySwap": resources.memory_bytes}
    if resources.cpus:
        host["NanoCpus"] = int(resources.cpus * 1e9)
    if resources.cpu_set:
        host["CpusetCpus"] = resources.cpu_set
    if resources.gpus:
        wanted = {"Count": -1} if resources.gpus == "all" else {"DeviceIDs": list(resources.gpus)}
        host["DeviceRequests"] = [{"Driver": "nvidia", "Capabilities": [["gpu"]], **wanted}]
    return {
        "Image": plan.image,
        "Entrypoint": ["/bin/sh", str(entry.control / "entry.sh")],
        "Cmd": [],
        "WorkingDir": "/",
        "AttachStdout": False,
        "AttachStderr": False,
        "Labels": {"slipway.attempt": plan.attempt_id, "slipway.execution": plan.execution_id},
        "HostConfig": host,
    }


def _bind(source: Path, target: PurePosixPath, *, readonly: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": str(target), "ReadOnly": readonly}


def _name(attempt_id: str) -> str:
    return f"slipway-{attempt_id}"


def _translated(error: DockerError, image: str, *, credentials: bool) -> ContainerError:
    text = error.message.lower()
    if any(word in text for word in ("denied", "unauthorized", "forbidden", "authentication required")):
        if "pull access denied" in text and not credentials:
            return ImageMissing(f"{image} does not exist or is private: {error.message}")
        return ImageDenied(f"the registry refused {image}: {error.message}")
    if error.status == _NOT_FOUND and text.startswith("network "):
        return RuntimeUnavailable(f"the network of runs is gone; the worker makes it again: {error.message}")
    if error.status == _NOT_FOUND or any(w in text for w in ("manifest unknown", "not found", "no such image")):
        return ImageMissing(f"there is no image {image}: {error.message}")
    if any(word in text for word in _UNREACHABLE_WORDS):
        return RegistryUnreachable(f"the registry of {image} did not answer: {error.message}")
    return ContainerError(f"the engine refused {image}: {error.message}")
