"""An image that was built before."""

from slipway_builder.images.contents import server_argv
from slipway_builder.images.protocol import BuiltImage, ImageRequest
from slipway_builder.images.registry.bases import Base
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import read_image


async def find_built(registry: RegistryClient, request: ImageRequest, base: Base, tag: str) -> BuiltImage | None:
    """The image under `tag` in the request's repository, or None."""
    digest = await registry.find_manifest(request.repository, tag)
    if digest is None:
        return None
    image = read_image(await registry.manifest(request.repository, digest), request.repository)
    return describe_built(
        request, digest=digest, base_digest=base.digest, size=sum(layer.size for layer in image.layers)
    )


def describe_built(
    request: ImageRequest,
    *,
    digest: str,
    base_digest: str,
    size: int,
    pushed: int = 0,
    seconds: dict[str, float] | None = None,
) -> BuiltImage:
    """What a builder answers."""
    return BuiltImage(
        reference=f"{request.registry.host}/{request.repository}@{digest}",
        digest=digest,
        base_digest=base_digest,
        size=size,
        pushed=pushed,
        command=server_argv(request.spec),
        seconds=seconds or {},
    )
