"""`append`: writes code and files as layers onto the base image, inside the registry.

No engine, no root, and no command of anybody runs. The base's layers are mounted, not pulled, so the cost grows with
what is new and not with the image.
"""

from slipway_builder.images.assembling import Assembler
from slipway_builder.images.builders.wheels import wheels_layer
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildLog, BuiltImage, CannotBuild, ImageRequest
from slipway_builder.images.registry.references import parse_reference


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
        reference = parse_reference(request.base)
        async with self._assembler.job(request, log) as job:
            base = await self._assembler.find_base(job, reference)
            built = await self._assembler.find_built(job, base)
            if built is not None:
                return built
            contents = await self._assembler.unpack(job)
            wheels = None
            if contents.requirements is not None:
                if not self._resolves:
                    raise CannotBuild(f"{contents.requirements} has requirements to install.")
                wheels = await wheels_layer(job, contents, await base.config())
            return await self._assembler.assemble(job, base, contents, wheels)
