"""`append`: writes code and files as layers onto the base image, inside the registry.

No engine, no root, and no command of anybody runs. The base's layers are mounted, not pulled, so the cost grows with
what is new and not with the image.
"""

from slipway_builder.images.assembling import Assembler, Contents, Job, WrittenLayer
from slipway_builder.images.builders.wheels import wheels_layer
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildLog, BuiltImage, CannotBuild, ImageRequest
from slipway_builder.images.registry.bases import Base


class AppendBuilder:
    """Appends layers to the base in the registry."""

    name = "append"

    def __init__(self, options: BuilderOptions) -> None:
        self._assembler = Assembler(options)
        self._resolves = options.dependencies

    async def aclose(self) -> None:
        """Close the connections to registries."""
        await self._assembler.aclose()

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build and push. Raises `CannotBuild` for what needs a command run in the image."""
        return await self._assembler.build(request, log, self._install)

    async def _install(self, job: Job, base: Base, contents: Contents, requirements: str) -> WrittenLayer:
        if not self._resolves:
            raise CannotBuild(f"{requirements} has requirements to install.")
        return await wheels_layer(job, contents, requirements, await base.config())
