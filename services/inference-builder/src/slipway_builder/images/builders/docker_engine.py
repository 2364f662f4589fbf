"""What image builders ask of a Docker engine."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

import aiodocker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError

from slipway_builder.images.protocol import BuildError, BuildLog, RegistryAccess
from slipway_kit.errors import Unavailable
from slipway_kit.tasks import run_blocking
from slipway_kit.transfer import TRANSFER_ERRORS, ClientTimeout

LABEL: Final = "slipway.image-build"
"""On every container that a builder makes: its value is the image's id."""

INSTALLATION: Final = "slipway.image-installation"
"""On every container that a builder makes, and on the images that are made of them: whose they are."""

_NOT_FOUND: Final = 404
_GOING: Final = (404, 409)
_CALL_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 300.0
_QUIET_SECONDS: Final = 1800.0
"""A compiler may be busy for long without a word."""
_REMOVE_SECONDS: Final = 30.0
_READ_BYTES: Final = 1024 * 1024


class Engine:
    """A Docker engine on this machine. Raises `Unavailable` when it does not answer."""

    def __init__(self, socket: Path, network: str, installation: str = "") -> None:
        """`installation` tells this platform's build containers from those of others on the same engine."""
        self._socket = socket
        self._network = network
        self._installation = installation
        self._builds = f"slipway-build-{installation or 'unnamed'}-"
        self._client: aiodocker.Docker | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def image_id(self, name: str) -> str | None:
        """The id of the engine's image of this name, or None."""
        found = await self._inspect(name)
        return None if found is None else str(found["Id"])

    async def local_image(self, name: str) -> str | None:
        """The id of the engine's image of this name, if it was made here and came from no registry."""
        found = await self._inspect(name)
        return None if found is None or found.get("RepoDigests") else str(found["Id"])

    async def _inspect(self, name: str) -> Mapping[str, Any] | None:
        async with self._answering():
            try:
                return cast(Mapping[str, Any], await self._docker().images.inspect(name))
            except DockerError as error:
                if error.status != _NOT_FOUND:
                    raise
        return None

    async def pull(self, name: str, access: RegistryAccess, log: BuildLog) -> None:
        """Have an image, named by digest."""
        if await self.image_id(name) is not None:
            return
        log(f"Pulling {name} into the engine")
        await self._follow(self._docker().images.pull(name, auth=_login(access), stream=True), name)

    async def pull_public(self, name: str, log: BuildLog) -> None:
        """Have an image by the name that its user gave it. Raises `BuildError` when there is none or it is denied."""
        log(f"Pulling {name} into the engine")
        try:
            await self._follow(self._docker().images.pull(name, stream=True), name)
        except Unavailable as error:
            raise BuildError(f"The image {name} cannot be pulled. {error.message}", code="image_missing") from error

    async def commit(self, container: DockerContainer, repository: str, tag: str) -> str:
        """Keep a container's files as an image; returns its id."""
        async with self._answering():
            made = await container.commit(repository=repository, tag=tag)
        return str(made["Id"])

    async def push(self, image: str, repository: str, tag: str, access: RegistryAccess, log: BuildLog) -> None:
        """Push an image that only the engine has."""
        target = f"{access.host}/{repository}"
        log(f"Pushing the engine's copy to {target}, once")
        async with self._answering():
            await self._docker().images.tag(image, target, tag=tag)
        try:
            auth = _login(access) or {"username": "", "password": ""}
            await self._follow(self._docker().images.push(target, auth=auth, tag=tag, stream=True), target)
        finally:
            async with self._answering():
                await self._docker().images.delete(f"{target}:{tag}", noprune=True)

    @asynccontextmanager
    async def container(
        self, config: dict[str, Any], image_id: str, lease: UUID | None
    ) -> AsyncIterator[DockerContainer]:
        """A container that is removed afterwards; it has no rights but to use the network.

        `lease` names it: when this process is killed, `builds` tells whose it was.
        """
        host: dict[str, Any] = {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 4096,
            "Init": True,
            **({"NetworkMode": self._network} if self._network else {}),
        }
        async with self._answering():
            made = await self._docker().containers.create(
                {
                    **config,
                    "Labels": {LABEL: image_id, INSTALLATION: self._installation},
                    "HostConfig": host,
                    "Entrypoint": [],
                },
                name=f"{self._builds}{lease or uuid4()}",
            )
        try:
            yield made
        finally:
            async with self._answering(), asyncio.timeout(_REMOVE_SECONDS):
                await made.delete(force=True, v=True)

    async def builds(self) -> dict[UUID, str]:
        """The build containers of this installation: their ids by their leases."""
        filters = json.dumps({"name": [f"^/{self._builds}"]})
        async with self._answering():
            listed = await self._docker().containers.list(all=True, filters=filters)
        # The names alone are asked: an image keeps the labels of the container that it was made from.
        found = ((str(name).rpartition(self._builds), one.id) for one in listed for name in one["Names"])
        return {UUID(lease): container for (_, _, lease), container in found}

    async def remove(self, container_id: str) -> None:
        """End and delete a container; one that is gone already is no trouble."""
        async with self._answering(), asyncio.timeout(_REMOVE_SECONDS):
            try:
                await self._docker().containers.container(container_id).delete(force=True, v=True)
            except DockerError as error:
                if error.status not in _GOING:
                    raise

    @property
    def present(self) -> bool:
        """Whether there is an engine to ask."""
        return self._socket.exists()

    async def unreferenced(self, ids: Set[str], *, delete: bool) -> tuple[tuple[str, ...], int]:
        """Images that this installation's builds have made here and nobody refers to, deleted if `delete`, and how
        many are kept. One that a container still uses stays, until the next time."""
        filters = json.dumps({"label": [f"{INSTALLATION}={self._installation}"]})
        async with self._answering():
            listed = await self._docker().images.list(filters=filters)
        gone = sorted(str(one["Id"]) for one in listed if one["Id"] not in ids)
        for image in gone if delete else ():
            async with self._answering():
                try:
                    await self._docker().images.delete(image, force=False)
                except DockerError as error:
                    if error.status not in _GOING:
                        raise
        return tuple(gone), len(listed) - len(gone)

    async def put_layer(self, container: DockerContainer, layer: Path) -> None:
        """Unpack a layer into a container that has not started."""
        file = await run_blocking(layer.open, "rb")
        try:
            async with self._answering():
                await container.put_archive("/", file)  # type: ignore[no-untyped-call]
        finally:
            await run_blocking(file.close)

    async def run(self, container: DockerContainer, log: BuildLog) -> int:
        """Start, pass every line on, and wait for the end: the exit code."""
        async with self._answering():
            await container.start()
            begun = ""
            async with asyncio.timeout(_QUIET_SECONDS) as silence:
                clock = asyncio.get_running_loop().time
                async for text in container.log(stdout=True, stderr=True, follow=True):
                    silence.reschedule(clock() + _QUIET_SECONDS)
                    *whole, begun = (begun + text).split("\n")
                    for line in whole:
                        log(line)
            if begun:
                log(begun)
            return int((await container.wait(timeout=_CALL_SECONDS))["StatusCode"])

    async def save_folder(self, container: DockerContainer, folder: str, target: Path) -> None:
        """Write a folder of a container into a file, as a tar."""
        path = f"containers/{container.id}/archive"
        file = await run_blocking(target.open, "wb")
        try:
            async with self._answering(), self._docker()._query(path, params={"path": folder}) as answer:
                async for chunk in answer.content.iter_chunked(_READ_BYTES):
                    await run_blocking(file.write, chunk)
        finally:
            await run_blocking(file.close)

    async def _follow(self, events: AsyncIterator[dict[str, Any]], name: str) -> None:
        """Wait for the end of a pull or a push."""
        clock = asyncio.get_running_loop().time
        async with self._answering(), asyncio.timeout(_SILENCE_SECONDS) as silence:
            async for event in events:
                silence.reschedule(clock() + _SILENCE_SECONDS)
                if "error" in event:
                    raise BuildError(f"The Docker engine could not transfer {name}: {event['error']}")

    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            timeout = ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_SECONDS)
            self._client = aiodocker.Docker(url=f"unix://{self._socket}", timeout=timeout)
        return self._client

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            yield
        except DockerError as error:
            raise Unavailable(f"The Docker engine on {self._socket} refused: {error.message}") from error
        except (*TRANSFER_ERRORS, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"The Docker engine on {self._socket} does not answer: {reason}.") from error


def _login(access: RegistryAccess) -> dict[str, Any] | None:
    if access.username is None:
        return None
    return {"username": access.username, "password": access.password or "", "serveraddress": access.host}
