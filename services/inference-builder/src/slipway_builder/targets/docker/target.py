"""Serves endpoints as containers of this host's Docker engine, one for each; the engine starts them again."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiodocker
from aiodocker.exceptions import DockerError

from slipway_builder.images.protocol import ENDPOINT_UID, HOME_DIRECTORY
from slipway_builder.targets.docker.following import follow
from slipway_builder.targets.protocol import Address, EndpointRevision, Observation, ReplicaLine, TargetCheck
from slipway_kit.errors import Unavailable
from slipway_kit.transfer import TRANSFER_ERRORS
from slipway_schemas.inference.statuses import Problem, TargetKind

INSTALLATION: Final = "slipway.installation"
ENDPOINT: Final = "slipway.endpoint"
GENERATION: Final = "slipway.generation"
FINGERPRINT: Final = "slipway.fingerprint"
PORT: Final = "slipway.port"
MEMORY: Final = "slipway.memory"

_STOPPED: Final = ("created", "exited")
"""What nobody starts again: its builder ended before it could, or a person has stopped it."""

_GOING: Final = (404, 409)
"""What the engine answers about a container that is gone, or is being removed."""
_CALL_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10
_QUIET_SECONDS: Final = 10.0
_LAST_LINES: Final = 20
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_PLATFORM_VARIABLES: Final = ("VALOHAI_PORT", "VH_DEFAULT_PREFIX", "VH_JOB_ID")


class DockerTarget:
    """One host with an engine. Published ports are the loopback's: only a router on this host reaches them."""

    kind = TargetKind.DOCKER

    def __init__(self, socket: Path, installation: str, *, network: str = "") -> None:
        """`installation` tells this platform's containers from those of others on the same engine."""
        self._socket = socket
        self._installation = installation
        self._network = network
        self._client: aiodocker.Docker | None = None
        self._refused: dict[UUID, tuple[int, str]] = {}
        self._exit_codes: dict[str, int] = {}
        """By container: the engine tells it only until the next start."""

    async def check(self) -> tuple[TargetCheck, ...]:
        """Whether the engine answers."""
        try:
            async with self._answering() as docker:
                version = await docker.version()
        except Unavailable as error:
            return (TargetCheck("engine", False, f"{error.message} Start dockerd, and let Slipway use its socket."),)
        return (TargetCheck("engine", True, f"Docker {version.get('Version', '')}"),)

    async def apply(self, revision: EndpointRevision) -> None:
        """Start the container, or replace one of another image, command, environment or limit."""
        fingerprint = _fingerprint(revision)
        mine = [one for one in await self._containers() if one["Labels"][ENDPOINT] == str(revision.endpoint_id)]
        wanted = min(revision.scale.replicas, 1)
        kept = 0
        async with self._answering() as docker:
            for one in mine:
                labels = one["Labels"]
                same = labels[FINGERPRINT] == fingerprint and labels[GENERATION] == str(revision.generation)
                if same and kept < wanted:
                    kept += 1
                    if one["State"] in _STOPPED:
                        await docker.containers.container(one["Id"]).start()
                else:
                    await _end(docker, one["Id"])
            self._refused.pop(revision.endpoint_id, None)
            if kept < wanted:
                try:
                    made = await docker.containers.create(self._config(revision, fingerprint), name=_name(revision))
                except DockerError as error:
                    if error.status != 404:
                        raise Unavailable(f"The Docker engine on {self._socket} refused: {error.message}") from error
                    self._refused[revision.endpoint_id] = (revision.generation, _image_words(revision, error))
                    return
                await made.start()

    async def remove(self, endpoint_id: UUID) -> None:
        """End and delete the container."""
        self._refused.pop(endpoint_id, None)
        found = [one for one in await self._containers() if one["Labels"][ENDPOINT] == str(endpoint_id)]
        async with self._answering() as docker:
            for one in found:
                await _end(docker, one["Id"])

    async def observe(self) -> Mapping[UUID, Observation]:
        """Every container of this installation."""
        found: dict[UUID, Observation] = {}
        for one in await self._containers():
            async with self._answering() as docker:
                try:
                    container = await docker.containers.get(one["Id"])
                    lines = await container.log(stdout=True, stderr=True, tail=_LAST_LINES)
                except DockerError as error:
                    if error.status in _GOING:  # it went while we looked
                        continue
                    raise
            state = container._container["State"]
            if state["Restarting"] or not state["Running"]:  # the engine calls one that waits for its restart running
                self._exit_codes[one["Id"]] = state["ExitCode"]
            seen = await _observation(container._container, lines, self._exit_codes.get(one["Id"]))
            other = found.get(seen.endpoint_id)
            if other is not None:
                seen = replace(max(seen, other, key=lambda one: one.generation), drifted=True)
            found[seen.endpoint_id] = seen
        for endpoint_id, (generation, words) in self._refused.items():
            found.setdefault(
                endpoint_id, Observation(endpoint_id, generation, 1, 0, problem=Problem.IMAGE_PULL, detail=words)
            )
        return found

    async def logs(
        self, endpoint_id: UUID, *, since: datetime, known: Mapping[str, datetime] | None = None
    ) -> AsyncGenerator[ReplicaLine, None]:
        """Lines of the container, old and new, with the engine's times; ends with the container."""
        for one in await self._containers():
            if one["Labels"][ENDPOINT] != str(endpoint_id):
                continue
            name = one["Id"][:12]
            after = max((known or {}).get(name, since), _EPOCH)
            async with self._answering() as docker, aclosing(follow(docker, one["Id"], after)) as lines:
                try:
                    async for stream, at, text in lines:
                        yield ReplicaLine(name, _time_of(at, since), stream, text)
                except DockerError as error:
                    if error.status not in _GOING:
                        raise

    async def aclose(self) -> None:
        """Close the connection; containers go on."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def end_all(self) -> None:
        """Delete every container of this installation, as when the machine is switched off."""
        found = await self._containers()
        async with self._answering() as docker:
            await asyncio.gather(*(_end(docker, one["Id"]) for one in found))

    async def _containers(self) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [f"{INSTALLATION}={self._installation}"]})
        async with self._answering() as docker:
            listed = await docker.containers.list(all=True, filters=filters)
        return [one._container for one in listed]

    def _config(self, revision: EndpointRevision, fingerprint: str) -> dict[str, Any]:
        spec = revision.spec
        variables = {**revision.environment, **revision.secret_environment}
        variables = {name: value for name, value in variables.items() if name not in _PLATFORM_VARIABLES}
        variables |= {
            "HOME": HOME_DIRECTORY,
            "PYTHONUNBUFFERED": variables.get("PYTHONUNBUFFERED", "1"),
            "VALOHAI_PORT": str(spec.port),
            "VH_DEFAULT_PREFIX": revision.prefix,
        }
        limits = spec.resources
        memory = int(limits.memory_bytes.max or 0)
        host: dict[str, Any] = {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 4096,
            "Init": True,
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            "PortBindings": {f"{spec.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            **({"Memory": memory, "MemorySwap": memory} if memory else {}),
            **({"NanoCpus": int(limits.cpu.max * 1e9)} if limits.cpu.max else {}),
            **({"NetworkMode": self._network} if self._network else {}),
        }
        return {
            "Image": revision.image,
            "Entrypoint": [],
            "Cmd": list(revision.command),
            "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
            "User": f"{ENDPOINT_UID}:{ENDPOINT_UID}",
            "ExposedPorts": {f"{spec.port}/tcp": {}},
            "Labels": {
                INSTALLATION: self._installation,
                ENDPOINT: str(revision.endpoint_id),
                GENERATION: str(revision.generation),
                FINGERPRINT: fingerprint,
                PORT: str(spec.port),
                MEMORY: str(memory),
                "slipway.prefix": revision.prefix,
            },
            "HostConfig": host,
        }

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[aiodocker.Docker]:
        if self._client is None:
            self._client = aiodocker.Docker(url=f"unix://{self._socket}")
        try:
            yield self._client
        except DockerError as error:
            if error.status in _GOING:
                raise
            raise Unavailable(f"The Docker engine on {self._socket} refused: {error.message}") from error
        except (*TRANSFER_ERRORS, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"The Docker engine on {self._socket} does not answer: {reason}.") from error


async def engine_answers(socket: Path = Path("/var/run/docker.sock")) -> bool:
    """Whether this host has an engine that this user may use."""
    if not socket.exists():
        return False
    target = DockerTarget(socket, "")
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            (engine,) = await target.check()
            return engine.ok
    except TimeoutError:
        return False
    finally:
        await target.aclose()


def open_target(_id: UUID, _settings: Mapping[str, Any], local: Mapping[str, Any]) -> DockerTarget:
    """The factory of the kind; all settings belong to the installation."""
    return DockerTarget(Path(local["socket"]), str(local["installation"]), network=str(local.get("network", "")))


async def _end(docker: aiodocker.Docker, container_id: str) -> None:
    container = docker.containers.container(container_id)
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            await container.stop(t=_STOP_SECONDS)
        await container.delete(force=True, v=True)
    except DockerError as error:
        if error.status not in _GOING:
            raise


async def _observation(inspected: Mapping[str, Any], lines: list[str], exit_code: int | None) -> Observation:
    labels, state = inspected["Config"]["Labels"], inspected["State"]
    port = int(labels[PORT])
    bound = (inspected["NetworkSettings"]["Ports"] or {}).get(f"{port}/tcp") or []
    runs = state["Running"] and not state["Restarting"]
    address = Address("127.0.0.1", int(bound[0]["HostPort"])) if runs and bound else None
    answers = address is not None and await _takes_connections(inspected, port)
    problem, detail = None, ""
    if not answers:
        problem, detail = _trouble(state, inspected["RestartCount"], exit_code, labels)
    last = tuple("".join(lines).splitlines()[-_LAST_LINES:])
    if problem is Problem.CRASH_LOOP and last:
        detail = f"{detail} Its last line: {last[-1]}"
    return Observation(
        endpoint_id=UUID(labels[ENDPOINT]),
        generation=int(labels[GENERATION]),
        wanted=1,
        ready=int(answers),
        address=address if answers else None,
        problem=problem,
        detail=detail,
        last_lines=() if answers or problem is None else last,
        restarts=inspected["RestartCount"],
        drifted=state["Status"] in _STOPPED,
    )


async def _takes_connections(inspected: Mapping[str, Any], port: int) -> bool:
    """Asked of the container itself: the engine's own proxy takes connections before the server does."""
    networks = inspected["NetworkSettings"]["Networks"].values()
    host = next((one["IPAddress"] for one in networks if one["IPAddress"]), "127.0.0.1")
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _trouble(
    state: Mapping[str, Any], restarts: int, exit_code: int | None, labels: Mapping[str, str]
) -> tuple[Problem | None, str]:
    if state.get("OOMKilled"):
        limit = int(labels[MEMORY]) / 1e6
        return Problem.OUT_OF_MEMORY, f"The server used more memory than its limit of {limit:.0f} MB and was ended."
    if restarts > 0 or state["Status"] in {"exited", "restarting", "dead"}:
        code = f": exit code {exit_code}" if exit_code is not None else ""
        return Problem.CRASH_LOOP, f"The server ends again and again{code}."
    seconds = (datetime.now(UTC) - _time_of(state["StartedAt"], datetime.now(UTC))).total_seconds()
    if seconds > _QUIET_SECONDS:
        return Problem.PROBE_FAILING, f"The server runs, but takes no connections yet on port {labels[PORT]}."
    return None, ""


def _image_words(revision: EndpointRevision, error: DockerError) -> str:
    return f"The image {revision.image} is not on this host any more: {error.message}. Build the version again."


def _fingerprint(revision: EndpointRevision) -> str:
    parts = [
        revision.image,
        list(revision.command),
        revision.prefix,
        sorted(revision.environment.items()),
        sorted(revision.secret_environment.items()),
        revision.spec.model_dump(mode="json"),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _name(revision: EndpointRevision) -> str:
    return f"slipway-endpoint-{revision.endpoint_id}-{revision.generation}"


def _time_of(text: str, fallback: datetime) -> datetime:
    """The engine's time: nanoseconds and a Z, of which Python reads microseconds."""
    head, _, fraction = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{head}.{fraction[:6] or '0'}").replace(tzinfo=UTC)
    except ValueError:
        return fallback
