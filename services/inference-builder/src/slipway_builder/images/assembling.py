"""Puts an image together inside the registry: the base's layers mounted, what is new pushed on top."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from slipway_builder.images.code_tree import CodeTree, open_code
from slipway_builder.images.contents import WSGI_SERVER, metadata_bytes
from slipway_builder.images.found import describe_built, find_built
from slipway_builder.images.identity import image_tag
from slipway_builder.images.image_config import extend_config, make_manifest
from slipway_builder.images.layers import Entry, FileLayer, Layer, file_entry, tree_entries, write_layer
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import (
    HOME_DIRECTORY,
    METADATA_FILE,
    WORK_DIRECTORY,
    BuildError,
    BuildLog,
    BuiltImage,
    FileSource,
    ImageRequest,
)
from slipway_builder.images.registry.bases import (
    Base,
    BaseCopies,
    find_base,
    mount_layers,
    send_missing_layers,
    together,
)
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.errors import BlobUnknown, RegistryRefused
from slipway_builder.images.registry.manifests import OCI_MANIFEST, Descriptor, digest_of
from slipway_builder.images.registry.pool import RegistryPool
from slipway_builder.images.registry.references import ImageReference, canonical_host, parse_reference
from slipway_builder.images.sbom import EMPTY, attach, make_sbom, packages_in
from slipway_builder.images.stopwatch import Stopwatch
from slipway_builder.images.wsgi import WSGI_DIRECTORY, write_wsgi_server, wsgi_version
from slipway_kit.tasks import cancel_and_wait, run_blocking

WORK_PATH: Final = PurePosixPath(WORK_DIRECTORY.lstrip("/"))
HOME_PATH: Final = PurePosixPath(HOME_DIRECTORY.lstrip("/"))
_OWN_LAYER_BYTES: Final = 8 * 1024 * 1024
"""Files from this size on get a layer each, so that a node keeps a model when only another one changes."""
_MOST_FILE_LAYERS: Final = 32
"""Engines take 127 layers in all."""
_REMEMBERED_LAYERS: Final = 1000
_MEGABYTE: Final = 1_000_000
_TELL_EVERY_BYTES: Final = 250 * _MEGABYTE

FileKeys = tuple[tuple[PurePosixPath, int, str | None], ...]
PlacedFiles = Sequence[tuple[PurePosixPath, FileSource]]


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer that lies in a file."""

    layer: Layer
    file: Path


@dataclass(slots=True)
class Job:
    """One build under way."""

    request: ImageRequest
    log: BuildLog
    registry: RegistryClient
    """The target's."""
    folder: Path
    """For temporary files."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    tag: str = ""
    """Where the image lies once it is built."""

    @property
    def server(self) -> Path:
        """The WSGI server's package, where one is brought."""
        return self.folder / "server"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a version brings into its image."""

    code: CodeTree
    files: PlacedFiles
    """Chosen files with their checked places below the work directory."""
    requirements: str | None
    """Name of the file whose requirements are to be installed."""

    @property
    def taken(self) -> frozenset[PurePosixPath]:
        """Paths of the code that something else takes."""
        return frozenset({PurePosixPath(METADATA_FILE), *(path for path, _ in self.files)})


FindBase = Callable[[Job, ImageReference], Awaitable[Base]]
Install = Callable[[Job, Base, Contents, str], Awaitable[WrittenLayer]]
"""Makes the layer of the requirements in the named file of the code."""


class Assembler:
    """What builders share; each adds what it knows of dependencies."""

    def __init__(self, options: BuilderOptions) -> None:
        self._options = options
        self._registries = RegistryPool(options.egress)
        self._copies = BaseCopies()
        self._sent: dict[FileKeys, Layer] = {}

    async def aclose(self) -> None:
        """Close the connections to registries."""
        await self._registries.aclose()

    async def build(
        self, request: ImageRequest, log: BuildLog, install: Install, find_base: FindBase | None = None
    ) -> BuiltImage:
        """Build and push one image, unless it was built before."""
        async with self._job(request, log) as job:
            base = await (find_base or self.find_base)(job, parse_reference(request.base))
            built = await self._find_built(job, base)
            if built is not None:
                return built
            contents = await self._unpack(job)
            installed = None
            if contents.requirements is not None:
                installed = await install(job, base, contents, contents.requirements)
            return await self._assemble(job, base, contents, installed)

    @asynccontextmanager
    async def _job(self, request: ImageRequest, log: BuildLog) -> AsyncIterator[Job]:
        """A build with a folder of its own, which goes with it."""
        folder = Path(await run_blocking(tempfile.mkdtemp, prefix="slipway-image-", dir=self._options.work_dir))
        try:
            yield Job(request, log, self._registries.target(request.registry), folder)
        finally:
            await run_blocking(shutil.rmtree, folder, ignore_errors=True)

    async def find_base(self, job: Job, reference: ImageReference) -> Base:
        """The user's base image at one digest. Raises what `registry.bases.find_base` does.

        The target's login must not open the images of other deployments, so those are no bases.
        """
        prefix, slash, _ = job.request.repository.rpartition("/")
        inside = slash and reference.repository.startswith(prefix + slash)
        if inside and reference.host == canonical_host(job.request.registry.host):
            raise BuildError(
                f"{reference} is an image of this platform's own; take the base that it was built from.",
                code="image_denied",
            )
        return await self.find_own(job, reference)

    async def find_own(self, job: Job, reference: ImageReference) -> Base:
        """The same for an image that the platform itself has named."""
        with job.watch.step("resolve"):
            registry = self._registries.source(reference, job.request)
            base = await find_base(registry, reference, job.request.platform)
        job.log(f"Base image {base.name} is {base.digest} ({base.size / _MEGABYTE:.1f} MB)")
        return base

    async def _find_built(self, job: Job, base: Base) -> BuiltImage | None:
        """The image, when the same content was built before."""
        with job.watch.step("resolve"):
            tag = await image_tag(job.request, base.digest)
            job.tag = tag or f"image-{job.request.image_id}"
            built = await find_built(job.registry, job.request, base, tag) if tag else None
        if built is not None:
            job.log(f"This image was built before: {built.reference}")
        return built

    async def _unpack(self, job: Job) -> Contents:
        """Read the code, and check where the chosen files go. Raises `BuildError`."""
        with job.watch.step("unpack"):
            return await run_blocking(_unpack, job)

    async def local_base(self, job: Job, base: Base) -> Base:
        """The base in the target's registry, copied there if it came from another one."""
        with job.watch.step("base"):
            return await self._copies.local(base, job.registry, job.request, job.log)

    async def push_start(self, job: Job, base: Base, layer: WrittenLayer, config: bytes) -> str:
        """Push what an installation begins with, the base and one layer; its digest, for it gets no tag.

        `base` is in the target's registry.
        """
        await _mount(job, base)
        with job.watch.step("push"):
            await _send(job, layer)
            await _send_document(job, config)
            layers = [*base.image.layers, layer.layer.descriptor]
            raw = make_manifest(config, layers, base_name=base.name, base_digest=base.digest)
            return await job.registry.put_manifest(job.request.repository, digest_of(raw), raw, OCI_MANIFEST)

    async def _assemble(
        self, job: Job, base: Base, contents: Contents, dependencies: WrittenLayer | None
    ) -> BuiltImage:
        """Write, mount and push all layers, then the image. `dependencies`: installed under the home directory."""
        base = await self.local_base(job, base)
        with job.watch.step("base"):
            config = await base.config()
        mounting = asyncio.create_task(_mount(job, base))
        try:
            with job.watch.step("layers"):
                written = await run_blocking(_write_layers, job, contents)
            pushed = await mounting
        finally:
            await cancel_and_wait(mounting)
        # What changes least lies lowest, so that a node unpacks it once: server, dependencies, files, code, metadata.
        lower = [written.pop(0)] if job.request.spec.wsgi is not None else []
        lower += [dependencies] if dependencies is not None else []
        with job.watch.step("push"):
            sent = []
            for some in _grouped(contents.files):
                layer, size = await self._send_files(job, some)
                sent.append(layer)
                pushed += size
            layers = [*(one.layer for one in lower), *sent, *(one.layer for one in written)]
            document = extend_config(config, layers, job.request.spec)
            raw = make_manifest(
                document,
                [*base.image.layers, *(one.descriptor for one in layers)],
                base_name=base.name,
                base_digest=base.digest,
            )
            sending = [partial(_send, job, one) for one in (*lower, *written)]
            sbom = await _sbom(job, base, dependencies)
            sending += [partial(_send_document, job, one) for one in (document, EMPTY, sbom)]
            pushed += sum(await together(_call, sending))
            # The image last: whoever finds it takes it as it is, with all that belongs to it.
            await _attach(job, raw, sbom)
            pushed += await _put_manifest(job, base, raw)
        built = describe_built(
            job.request,
            digest=digest_of(raw),
            base_digest=base.digest,
            size=base.size + sum(one.descriptor.size for one in layers),
            pushed=pushed,
            seconds=job.watch.seconds(),
        )
        job.log(f"Pushed {built.reference} ({pushed / _MEGABYTE:.1f} MB sent in {built.seconds['total']:.1f} s)")
        return built

    async def _send_files(self, job: Job, files: PlacedFiles) -> tuple[Layer, int]:
        """One layer of chosen files, from their store to the registry, and the bytes sent.

        A layer that this builder has sent before is not read again while the repository has it.
        """
        keys = tuple((path, file.size, file.sha256) for path, file in files)
        known = self._sent.get(keys)
        if known is not None and await job.registry.has_blob(job.request.repository, known.descriptor.digest):
            job.log(f"The registry has {known.about} already")
            return known, 0
        layer = FileLayer([(WORK_PATH / path, source) for path, source in files], _progress(files, job.log))
        await job.registry.upload_stream(job.request.repository, layer.chunks(), lambda: layer.layer.descriptor.digest)
        if all(file.sha256 is not None for _, file in files):
            while len(self._sent) >= _REMEMBERED_LAYERS:
                self._sent.pop(next(iter(self._sent)))
            self._sent[keys] = layer.layer
        return layer.layer, layer.layer.descriptor.size


def _write_layers(job: Job, contents: Contents) -> list[WrittenLayer]:
    """The layers that are small enough to lie on the disk: server, code, metadata. Blocking."""
    written = []
    if job.request.spec.wsgi is not None:
        write_wsgi_server(job.server)
        entries = tree_entries(job.server, PurePosixPath(WSGI_DIRECTORY.lstrip("/")))
        written.append(written_layer(job.folder / "server.layer", entries, "WSGI server"))
    entries = contents.code.entries(WORK_PATH, contents.taken)
    written.append(written_layer(job.folder / "code.layer", [Entry(HOME_PATH), *entries], "code"))
    metadata = file_entry(WORK_PATH / METADATA_FILE, metadata_bytes(job.request.metadata), mode=0o444)
    written.append(written_layer(job.folder / "metadata.layer", [metadata], METADATA_FILE))
    return written


def written_layer(file: Path, entries: Iterable[Entry], about: str) -> WrittenLayer:
    """Write a layer into a file. Blocking."""
    return WrittenLayer(write_layer(file, entries, about), file)


def _unpack(job: Job) -> Contents:
    code = open_code(job.request.code, job.folder / "code")
    files = [(code.place(one.path), one) for one in job.request.files]
    return Contents(code, files, code.requirements())


async def _mount(job: Job, base: Base) -> int:
    with job.watch.step("mount"):
        return await mount_layers(base, job.request.repository)


async def _send(job: Job, written: WrittenLayer) -> int:
    digest, size = written.layer.descriptor.digest, written.layer.descriptor.size
    if await job.registry.has_blob(job.request.repository, digest):
        return 0
    if size <= _OWN_LAYER_BYTES:
        await job.registry.upload(job.request.repository, digest, await run_blocking(written.file.read_bytes))
    else:
        await job.registry.upload_stream(job.request.repository, _read(written.file), lambda: digest)
    return size


async def _send_document(job: Job, document: bytes) -> int:
    await job.registry.upload(job.request.repository, digest_of(document), document)
    return len(document)


async def _put_manifest(job: Job, base: Base, raw: bytes) -> int:
    """Store the manifest; the bytes that had to be sent again because the registry lost mounted layers."""
    try:
        await job.registry.put_manifest(job.request.repository, job.tag, raw, OCI_MANIFEST)
    except BlobUnknown:
        again = await send_missing_layers(base, job.request.repository)
        await job.registry.put_manifest(job.request.repository, job.tag, raw, OCI_MANIFEST)
        return again
    return 0


async def _sbom(job: Job, base: Base, dependencies: WrittenLayer | None) -> bytes:
    packages = [] if dependencies is None else await run_blocking(packages_in, dependencies.file)
    if job.request.spec.wsgi is not None:
        packages.append((WSGI_SERVER, await run_blocking(wsgi_version)))
    return make_sbom(base.name, base.digest, packages)


async def _attach(job: Job, manifest: bytes, sbom: bytes) -> None:
    subject = Descriptor(OCI_MANIFEST, digest_of(manifest), len(manifest))
    try:
        await attach(job.registry, job.request.repository, subject, sbom)
    except RegistryRefused as error:
        job.log(f"The list of what is in the image could not be attached: {error.message}")


async def _call(work: Callable[[], Awaitable[int]]) -> int:
    return await work()


def _grouped(files: PlacedFiles) -> list[PlacedFiles]:
    """The largest files alone, the others together."""
    by_size = sorted(files, key=lambda one: (-one[1].size, one[0].parts))
    alone = [one for one in by_size[:_MOST_FILE_LAYERS] if one[1].size >= _OWN_LAYER_BYTES]
    rest = by_size[len(alone) :]
    alone.sort(key=lambda one: one[0].parts)
    return [*([one] for one in alone), *([rest] if rest else [])]


def _progress(files: PlacedFiles, log: BuildLog) -> Callable[[int], None]:
    """Says in the log how far a large upload is."""
    total = sum(file.size for _, file in files)
    named = files[0][0].name if len(files) == 1 else f"{len(files)} files"
    sent = told = 0

    def advance(size: int) -> None:
        nonlocal sent, told
        sent += size
        if sent == total or sent - told >= _TELL_EVERY_BYTES:
            told = sent
            log(f"Sent {sent / _MEGABYTE:.1f} of {total / _MEGABYTE:.1f} MB of {named}")

    return advance


async def _read(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while chunk := await run_blocking(source.read, 1024 * 1024):
            yield chunk
