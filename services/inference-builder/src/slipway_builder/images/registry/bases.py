"""Base images: found once by digest, copied once per digest, mounted layer by layer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from slipway_builder.images.protocol import BuildError, BuildLog, ImageRequest
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import (
    INDEXES,
    MANIFESTS,
    Descriptor,
    ImageManifest,
    Manifest,
    choose_platform,
    read_image,
)
from slipway_builder.images.registry.references import ImageReference, canonical_host
from slipway_kit.egress import EgressRefused

T = TypeVar("T")
R = TypeVar("R")

BASES: Final = "bases"
"""Beside the repositories of deployments: copies of base images from other registries."""
_AT_ONCE: Final = 6
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Base:
    """A base image at one digest, and where its parts can be read."""

    name: str
    manifest: Manifest
    image: ImageManifest
    registry: RegistryClient
    repository: str

    @property
    def digest(self) -> str:
        """Of the image for the wanted platform."""
        return self.image.digest

    @property
    def size(self) -> int:
        """Compressed bytes of its layers."""
        return sum(layer.size for layer in self.image.layers)

    async def config(self) -> dict[str, Any]:
        """The image's configuration. Raises `BuildError` for one that cannot be read."""
        try:
            found = json.loads(await self.registry.blob(self.repository, self.image.config.digest))
            if len(found["rootfs"]["diff_ids"]) != len(self.image.layers):
                raise ValueError("it does not name the layers of its manifest")
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"The configuration of {self.name} cannot be read: {error}; push the image again."
            ) from error
        return dict(found)


async def find_base(registry: RegistryClient, reference: ImageReference, platform: str) -> Base:
    """Resolve a tag to a digest, and an index to the image for the platform.

    Raises `ImageMissing`, `ImageDenied`, `BuildError` for a platform that does not exist, `CannotBuild` for layers
    that cannot be mounted, `RegistryUnreachable`.
    """
    try:
        manifest = await registry.manifest(reference.repository, reference.wanted)
        if manifest.media_type in INDEXES:
            digest = choose_platform(manifest, platform, str(reference))
            manifest = await registry.manifest(reference.repository, digest)
    except EgressRefused as error:
        raise BuildError(
            f"The registry of the base image {reference} may not be reached: {error.message}", code=error.code
        ) from error
    if manifest.media_type not in MANIFESTS:
        raise BuildError(
            f"The image {reference} is of an old or unknown kind ({manifest.media_type}); push it again with a "
            "current tool.",
            code="image_unreadable",
        )
    return Base(str(reference), manifest, read_image(manifest, str(reference)), registry, reference.repository)


class BaseCopies:
    """Brings base images of other registries into the target's, once per digest."""

    def __init__(self) -> None:
        self._copying: dict[tuple[str, str], asyncio.Lock] = {}

    async def local(self, base: Base, registry: RegistryClient, request: ImageRequest, log: BuildLog) -> Base:
        """The base in the target's registry, from where its layers can be mounted."""
        if canonical_host(base.registry.access.host) == canonical_host(registry.access.host):
            return Base(base.name, base.manifest, base.image, registry, base.repository)
        repository = f"{request.repository.rpartition('/')[0]}/{BASES}".lstrip("/")
        copy = Base(base.name, base.manifest, base.image, registry, repository)
        lock = self._copying.setdefault((registry.access.host, base.digest), asyncio.Lock())
        try:
            async with lock:
                if await registry.find_manifest(repository, base.digest) is None:
                    log(f"Copying {base.name} into the registry, once ({base.size / _MEGABYTE:.1f} MB)")
                    parts = (base.image.config, *base.image.layers)
                    await together(partial(_copy_blob, base, copy, log), _distinct(parts))
                    tag = base.digest.replace(":", "-")
                    await registry.put_manifest(repository, tag, base.manifest.raw, base.manifest.media_type)
        finally:
            if not lock.locked():
                self._copying.pop((registry.access.host, base.digest), None)
        return copy


async def mount_layers(base: Base, repository: str) -> int:
    """Have the base's layers in `repository` of the same registry without sending them.

    A registry that does not mount gets them sent, from itself; the bytes sent are returned.
    """
    if repository == base.repository:
        return 0
    return sum(await together(partial(_mount, base, repository), _distinct(base.image.layers)))


async def send_missing_layers(base: Base, repository: str) -> int:
    """Send those of the base's layers that the registry has lost since they were mounted; the bytes sent."""

    async def send(layer: Descriptor) -> int:
        if await base.registry.has_blob(repository, layer.digest):
            return 0
        await base.registry.upload_stream(
            repository, base.registry.stream_blob(base.repository, layer.digest), lambda: layer.digest
        )
        return layer.size

    return sum(await together(send, _distinct(base.image.layers)))


async def together(work: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """Do the work for all items, a few at once; the first error ends the others."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(item: T) -> R:
        async with free:
            return await work(item)

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _mount(base: Base, repository: str, layer: Descriptor) -> int:
    upload = await base.registry.mount(repository, layer.digest, base.repository)
    if upload is None:
        return 0
    await base.registry.upload_stream(
        repository, base.registry.stream_blob(base.repository, layer.digest), lambda: layer.digest, where=upload
    )
    return layer.size


async def _copy_blob(base: Base, copy: Base, log: BuildLog, part: Descriptor) -> None:
    if await copy.registry.has_blob(copy.repository, part.digest):
        return
    chunks = base.registry.stream_blob(base.repository, part.digest)
    await copy.registry.upload_stream(copy.repository, chunks, lambda: part.digest)
    log(f"Copied {part.digest[:19]} ({part.size / _MEGABYTE:.1f} MB)")


def _distinct(parts: Iterable[Descriptor]) -> list[Descriptor]:
    return list({part.digest: part for part in parts}.values())
