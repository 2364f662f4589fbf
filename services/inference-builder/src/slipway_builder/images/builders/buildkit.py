"""`buildkit`: installs requirements on the base image by BuildKit, in a job in the target's cluster.

For clusters without a Docker engine beside Slipway. As with `docker`, only what the one command wrote is taken: the
code reaches the job as a layer on the base, in the registry, and the files that were installed come back as a layer.
"""

import hashlib
import json
from collections import deque
from contextlib import suppress
from typing import Any, BinaryIO, Final

from slipway_builder.images.assembling import Assembler, Contents, Job, WrittenLayer
from slipway_builder.images.builders.buildkit_cluster import BuildCluster, BuildEnded, BuildOrder
from slipway_builder.images.builders.buildkit_progress import Progress
from slipway_builder.images.builders.installing import (
    INSTALL_ENVIRONMENT,
    KEPT_LINES,
    InstalledTree,
    install_command,
    installation_failed,
)
from slipway_builder.images.image_config import extend_config
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildLog, BuiltImage, ImageRequest
from slipway_builder.images.registry.bases import Base
from slipway_builder.images.registry.errors import RegistryUnreachable
from slipway_builder.images.registry.manifests import canonical_json, read_image
from slipway_kit.errors import Invalid, SlipwayError, Unavailable
from slipway_kit.tasks import run_blocking

_LABEL: Final = "slipway.image-build"
"""Makes the images of one build its own, so that no other build misses them when they are deleted."""


class BuildKitBuilder:
    """Needs a Kubernetes target with `builds`, whose pods reach the target's registry under its name."""

    name = "buildkit"

    def __init__(self, options: BuilderOptions) -> None:
        if options.cluster is None or options.cluster.builds is None:
            raise Invalid("The builder buildkit needs a Kubernetes target with `builds` in its `cluster` settings.")
        self._assembler = Assembler(options)
        self._cluster = BuildCluster(options.cluster, options.cluster.builds)

    async def aclose(self) -> None:
        """Close the connections to registries and to the cluster."""
        await self._assembler.aclose()
        await self._cluster.aclose()

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build and push. Raises `BuildError` with pip's last lines for a requirement that does not install."""
        return await self._assembler.build(request, log, self._install)

    async def _install(self, job: Job, base: Base, contents: Contents, requirements: str) -> WrittenLayer:
        base = await self._assembler.local_base(job, base)
        tree = InstalledTree(job, contents)
        code = await run_blocking(tree.write_code)
        config = _start_config(await base.config(), code, job)
        made: list[str] = []
        try:
            start = await self._assembler.push_start(job, base, code, config)
            made.append(start)
            with job.watch.step("install"):
                made.append(await self._run(job, start, requirements))
                await _fetch(job, made[-1], tree)
        finally:
            for digest in made:
                # Some registries delete nothing; what nobody refers to goes with the next clean-up.
                with suppress(SlipwayError):
                    await job.registry.delete_manifest(job.request.repository, digest)
        return await run_blocking(tree.layer)

    async def _run(self, job: Job, start: str, requirements: str) -> str:
        """The digest of the image with the requirements installed."""
        job.log(f"Installing {requirements} in the cluster")
        name = f"{job.request.registry.host}/{job.request.repository}"
        dockerfile = f"FROM {name}@{start}\nRUN {json.dumps(install_command(requirements))}\n"
        order = BuildOrder(job.request.image_id, name, dockerfile, job.request.registry)
        said: deque[str] = deque(maxlen=KEPT_LINES)

        def listen(line: str) -> None:
            said.append(line)
            job.log(line)

        progress = Progress(listen, job.log)
        try:
            return await self._cluster.run(order, progress)
        except BuildEnded as error:
            if progress.exit_code is not None:
                raise installation_failed(requirements, job.request.base, list(said), progress.exit_code) from error
            raise Unavailable(f"{error.message} It said:\n{progress.last_words()}") from error


def _start_config(base: dict[str, Any], code: WrittenLayer, job: Job) -> bytes:
    """The base's configuration with the code, the endpoint's user and what the installation wants to be set."""
    document = json.loads(extend_config(base, [code.layer], job.request.spec))
    document["config"]["Env"] += INSTALL_ENVIRONMENT
    document["config"]["Labels"] = {**(document["config"].get("Labels") or {}), _LABEL: str(job.request.image_id)}
    return canonical_json(document)


async def _fetch(job: Job, digest: str, tree: InstalledTree) -> None:
    """Have what the command wrote, the last layer of the image that BuildKit made, in a file."""
    manifest = await job.registry.manifest(job.request.repository, digest)
    layer = read_image(manifest, "that BuildKit made").layers[-1]
    found = hashlib.sha256()
    file = await run_blocking(tree.result.open, "wb")
    try:
        async for chunk in job.registry.stream_blob(job.request.repository, layer.digest):
            await run_blocking(_write, file, found, chunk)
    finally:
        await run_blocking(file.close)
    if f"sha256:{found.hexdigest()}" != layer.digest:
        raise RegistryUnreachable(f"The registry {job.registry.access.host} gave other bytes for {layer.digest}.")


def _write(file: BinaryIO, digest: "hashlib._Hash", chunk: bytes) -> None:
    digest.update(chunk)
    file.write(chunk)
