"""`docker`: installs requirements in a container of the base image, and appends what that wrote.

The engine runs the one command that needs the image; the result is put together in the registry as `append` does it,
so nothing else of the container gets into the image, and the base is never pushed again.
"""

from slipway_builder.images.assembling import Assembler, Contents, Job, WrittenLayer
from slipway_builder.images.builders.docker_engine import Engine
from slipway_builder.images.builders.installing import InstalledTree, install_requirements
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildLog, BuiltImage, ImageRequest
from slipway_builder.images.registry.bases import BASES, Base
from slipway_builder.images.registry.errors import ImageDenied, ImageMissing, RegistryUnreachable
from slipway_builder.images.registry.pool import source_access
from slipway_builder.images.registry.references import ImageReference, canonical_host, parse_reference
from slipway_kit.errors import Unavailable
from slipway_kit.tasks import run_blocking


class DockerBuilder:
    """Needs a Docker engine; the registry of the target must be trusted by it (or be on its loopback)."""

    name = "docker"

    def __init__(self, options: BuilderOptions) -> None:
        self._assembler = Assembler(options)
        self._engine = Engine(options.docker_socket, options.docker_network, options.installation)

    async def aclose(self) -> None:
        """Close the connections to registries and to the engine."""
        await self._assembler.aclose()
        await self._engine.aclose()

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build and push. Raises `BuildError` with pip's last lines for a requirement that does not install."""
        return await self._assembler.build(request, log, self._install, self._find_base)

    async def _find_base(self, job: Job, reference: ImageReference) -> Base:
        """The base in its registry, else an image that only the engine has, pushed once beside the target's.

        What the engine once pulled is not taken: whoever asks now might not have the right to pull it.
        """
        try:
            return await self._assembler.find_base(job, reference)
        except (ImageMissing, ImageDenied, RegistryUnreachable) as error:
            found = await self._own_copy(job.request.base)
            if found is None:
                raise
            job.log(f"{error.message} The engine has an image of this name that came from no registry; it is taken.")
        repository = f"{job.request.repository.rpartition('/')[0]}/{BASES}".lstrip("/")
        tag = found.replace(":", "-")
        if await job.registry.find_manifest(repository, tag) is None:
            await self._engine.push(found, repository, tag, job.request.registry, job.log)
        own = ImageReference(canonical_host(job.request.registry.host), repository, tag, None)
        return await self._assembler.find_own(job, own)

    async def _own_copy(self, name: str) -> str | None:
        try:
            return await self._engine.local_image(name)
        except Unavailable:
            return None

    async def _install(self, job: Job, base: Base, contents: Contents, requirements: str) -> WrittenLayer:
        with job.watch.step("pull"):
            name = f"{base.registry.access.host}/{base.repository}@{base.digest}"
            access = source_access(parse_reference(name), job.request)
            await self._engine.pull(name, access, job.log)
        with job.watch.step("install"):
            tree = InstalledTree(job, contents)
            await install_requirements(self._engine, name, tree, requirements)
            return await run_blocking(tree.layer)
