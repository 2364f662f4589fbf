"""Which builder makes the images of which target."""

from slipway_builder.images.building import BuildInput
from slipway_builder.images.protocol import BuildLog, BuiltImage, CannotBuild
from slipway_builder.targets.docker.images import HostImages
from slipway_builder.targets.docker.target import DockerTarget
from slipway_builder.targets.pool import TargetPool
from slipway_builder.targets.process.target import ProcessTarget
from slipway_builder.targets.store import TargetStore
from slipway_db import Database


class BuildersOfTargets:
    """A process target makes its bundles itself; a host with an engine has that make its images."""

    def __init__(self, db: Database, pool: TargetPool, host_images: HostImages) -> None:
        self._db = db
        self._pool = pool
        self._host_images = host_images

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
        raise CannotBuild(f"No builder makes images for targets of the kind {record.kind}.")
