"""The builders of a target, tried in order."""

from collections.abc import Sequence

from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, BuildLog, BuiltImage, CannotBuild, ImageBuilder, ImageRequest
from slipway_builder.images.registry.errors import ImageDenied, ImageMissing, RegistryUnreachable
from slipway_kit.errors import SlipwayError
from slipway_kit.registry import Registry

PROVIDERS = "slipway.providers.image_builder"


class BuilderChain:
    """The first builder that can build a request builds it.

    A later one is also asked when an earlier one cannot have the base image: an engine may hold it.
    """

    name = "chain"

    def __init__(self, builders: Sequence[ImageBuilder]) -> None:
        self._builders = tuple(builders)

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build with the first that can. Raises `BuildError` when none can, with the reason of each."""
        reasons: list[str] = []
        first: SlipwayError | None = None
        for builder in self._builders:
            try:
                return await builder.build(request, log)
            except CannotBuild as error:
                reasons.append(f"{builder.name}: {error.message}")
                log(f"The builder {builder.name} cannot build this: {error.message}")
            except (ImageMissing, ImageDenied, RegistryUnreachable) as error:
                if first is None:
                    first = error
        if first is not None:
            raise first
        raise BuildError(
            f"No builder of this target can build this version. {' '.join(reasons) or 'It has none.'} "
            "An administrator can add a builder to the target.",
            code="no_builder",
        )

    async def aclose(self) -> None:
        """Let go of all connections."""
        for builder in self._builders:
            await builder.aclose()


def open_builders(names: Sequence[str], options: BuilderOptions) -> BuilderChain:
    """The named builders in this order. Raises `NotFound` or `Unavailable` for one that is not usable here."""
    known: Registry[type[ImageBuilder]] = Registry(PROVIDERS)
    makers = [known.get(name) for name in names]
    return BuilderChain([make(options) for make in makers])  # type: ignore[call-arg] # the protocol has no __init__
