"""Which builder makes the images of which target."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import Field, SecretStr, ValidationError

from slipway_builder.images.building import BuildInput
from slipway_builder.images.chain import BuilderChain, open_builders
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildLog, BuiltImage, CannotBuild, ImageRequest, RegistryAccess
from slipway_builder.targets.docker.images import HostImages
from slipway_builder.targets.docker.target import DockerTarget
from slipway_builder.targets.kubernetes.target import KubernetesTarget
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.process.target import ProcessTarget
from slipway_builder.targets.store import Target as TargetRecord
from slipway_builder.targets.store import TargetStore
from slipway_db import Database
from slipway_kit.errors import invalid_from_validation
from slipway_schemas.base import StrictModel


class RegistrySettings(StrictModel):
    """The inference registry of a target."""

    host: str
    """`host[:port]`, as image references name it."""
    prefix: str = ""
    """Path in the registry below which all images lie."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    plain_http: bool = False

    def access(self) -> RegistryAccess:
        """The right to use it."""
        password = self.password.get_secret_value() if self.password is not None else None
        return RegistryAccess(self.host, self.username, password, self.ca_file, self.plain_http)


class ImageSettings(StrictModel):
    """How the images of a target are built."""

    registry: RegistrySettings
    builders: tuple[str, ...] = Field(default=("append", "docker"), min_length=1)
    """Tried in this order."""


class BuildersOfTargets:
    """A process target makes its bundles itself; a host with an engine has that make its images; the others push to
    a registry."""

    def __init__(self, db: Database, pool: TargetPool, host_images: HostImages, options: BuilderOptions) -> None:
        self._db = db
        self._pool = pool
        self._host_images = host_images
        self._options = options
        self._chains: dict[UUID, tuple[bytes, ImageSettings, BuilderChain]] = {}

    async def build(self, wanted: BuildInput, log: BuildLog) -> tuple[str, BuiltImage]:
        """Build for the target of the image. Raises as `ImageBuilder.build` does."""
        async with self._db.read() as session:
            record = await TargetStore(session).get(wanted.target_id)
        if record is None:
            raise CannotBuild("The deployment target was deleted.")
        target = self._pool.open(record)
        if isinstance(target, ProcessTarget):
            return target.bundles.name, await target.bundles.build(wanted, log)
        if isinstance(target, DockerTarget):
            return self._host_images.name, await self._host_images.build(wanted, log)
        settings, chain = await self._chain(record)
        request = ImageRequest(
            image_id=wanted.image_id,
            lease=wanted.lease,
            base=wanted.base,
            registry=settings.registry.access(),
            repository=f"{settings.registry.prefix}/{wanted.deployment_id}".strip("/"),
            code=wanted.code,
            files=wanted.files,
            metadata=wanted.metadata,
            spec=wanted.spec,
        )
        return chain.name, await chain.build(request, log)

    async def aclose(self) -> None:
        """Let go of registries and engines."""
        for _, _, chain in self._chains.values():
            await chain.aclose()

    async def _chain(self, record: TargetRecord) -> tuple[ImageSettings, BuilderChain]:
        known = self._chains.get(record.id)
        if known is not None and known[0] == record.settings:
            return known[1], known[2]
        target = self._pool.open(record)
        cluster = target.settings if isinstance(target, KubernetesTarget) else None
        settings = image_settings(self._pool.settings(record))
        chain = open_builders(settings.builders, replace(self._options, cluster=cluster))
        if known is not None:
            await known[2].aclose()
        self._chains[record.id] = (record.settings, settings, chain)
        return settings, chain


def image_settings(settings: Mapping[str, Any]) -> ImageSettings:
    """The part of a target's settings that is about images. Raises `Invalid`."""
    try:
        return ImageSettings.model_validate(settings.get("images", {}))
    except ValidationError as error:
        raise invalid_from_validation(error.errors()) from error
