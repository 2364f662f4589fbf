"""`append`: writes code and files as layers onto the base image, inside the registry.

No engine, no root, and no command of anybody runs. The base's layers are mounted, not pulled, so the cost grows with
what is new and not with the image.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from slipway_builder.images.contents import (
    metadata_bytes,
    requirements_file,
    safe_file_path,
    unpack_code,
)
from slipway_builder.images.found import describe_built, find_built
from slipway_builder.images.identity import image_tag
from slipway_builder.images.image_config import extend_config, make_manifest
from slipway_builder.images.layers import Entry, FileLayer, Layer, tree_entries, write_layer
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import (
    HOME_DIRECTORY,
    METADATA_FILE,
    WORK_DIRECTORY,
    BuildLog,
    BuiltImage,
    CannotBuild,
    FileSource,
    ImageRequest,
)
from slipway_builder.images.registry.bases import (
    Base,
    BaseCopies,
    find_base,
    mount_layers,
    send_missing_layers,
)
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.errors import BlobUnknown
from slipway_builder.images.registry.manifests import OCI_MANIFEST, digest_of
from slipway_builder.images.registry.pool import RegistryPool
from slipway_builder.images.registry.references import parse_reference
from slipway_builder.images.stopwatch import Stopwatch
from slipway_builder.images.wsgi import WSGI_DIRECTORY, write_wsgi_server
from slipway_kit.tasks import cancel_and_wait, run_blocking

_WORK: Final = PurePosixPath(WORK_DIRECTORY.lstrip("/"))
_OWN_LAYER_BYTES: Final = 8 * 1024 * 1024
"""Files from this size on get a layer each, so that a node keeps a model when only another one changes."""
_MOST_FILE_LAYERS: Final = 32
"""Engines take 127 layers in all."""
_MEGABYTE: Final = 1_000_000
_TELL_EVERY_BYTES: Final = 250 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class _Written:
    """A layer that lies in a file, or was sent already."""

    layer: Layer
    file: Path | None


class AppendBuilder:
    """Appends layers to the base in the registry."""

    name = "append"

    def __init__(self, options: BuilderOptions) -> None:
        self._options = options
        self._registries = RegistryPool(options.egress)
        self._copies = BaseCopies()

    async def aclose(self) -> None:
        """Close the connections to registries."""
        await self._registries.aclose()

    async def build(self, request: ImageRequest, log: BuildLog) -> BuiltImage:
        """Build and push. Raises `CannotBuild` for what needs a command run in the image."""
        watch = Stopwatch()
        reference = parse_reference(request.base)
        registry = self._registries.target(request.registry)
        with watch.step("resolve"):
            base = await find_base(self._registries.source(reference, request), reference, request.platform)
            log(f"Base image {base.name} is {base.digest} ({base.size / _MEGABYTE:.1f} MB)")
            tag = await image_tag(request, base.digest)
            built = await find_built(registry, request, base, tag) if tag else None
        if built is not None:
            log(f"This image was built before: {built.reference}")
            return built
        async with self._folder() as folder:
            code = folder / "code"
            with watch.step("unpack"):
                await run_blocking(unpack_code, request.code, code)
                await run_blocking(_check_buildable, code)
                files = await run_blocking(_placed_files, code, request.files)
            return await self._build(request, base, registry, folder, files, tag, watch, log)

    async def _build(
        self,
        request: ImageRequest,
        base: Base,
        registry: RegistryClient,
        folder: Path,
        files: Sequence[tuple[PurePosixPath, FileSource]],
        tag: str | None,
        watch: Stopwatch,
        log: BuildLog,
    ) -> BuiltImage:
        with watch.step("base"):
            base = await self._copies.local(base, registry, request, log)
            config = await base.config()
        mounting = asyncio.create_task(self._mount(base, request, watch))
        try:
            written = await self._write(request, folder, files, watch)
            pushed = await mounting
        finally:
            await cancel_and_wait(mounting)
        with watch.step("push"):
            sent = [await self._send_files(registry, request, some, log) for some in _grouped(files)]
            pushed += sum(one.descriptor.size for one in sent)
            for one in written:
                pushed += await self._send(registry, request, one)
            # Server, files, code, metadata: what changes least lies lowest, so nodes unpack it once.
            lowest = 1 if request.spec.wsgi is not None else 0
            layers = [*(one.layer for one in written[:lowest]), *sent, *(one.layer for one in written[lowest:])]
            document = extend_config(config, layers, request.spec)
            raw, described = make_manifest(
                document,
                [*base.image.layers, *(one.descriptor for one in layers)],
                base_name=base.name,
                base_digest=base.digest,
            )
            await registry.upload(request.repository, described.digest, document)
            pushed += len(document) + await self._put_manifest(registry, base, request, tag, raw)
        digest = digest_of(raw)
        size = base.size + sum(one.descriptor.size for one in layers)
        built = describe_built(
            request, digest=digest, base_digest=base.digest, size=size, pushed=pushed, seconds=watch.seconds()
        )
        log(f"Pushed {built.reference} ({pushed / _MEGABYTE:.1f} MB sent in {built.seconds['total']:.1f} s)")
        return built

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        folder = Path(await run_blocking(tempfile.mkdtemp, prefix="slipway-image-", dir=self._options.work_dir))
        try:
            yield folder
        finally:
            await run_blocking(shutil.rmtree, folder, ignore_errors=True)

    async def _mount(self, base: Base, request: ImageRequest, watch: Stopwatch) -> int:
        with watch.step("mount"):
            return await mount_layers(base, request.repository)

    async def _write(
        self,
        request: ImageRequest,
        folder: Path,
        files: Sequence[tuple[PurePosixPath, FileSource]],
        watch: Stopwatch,
    ) -> list[_Written]:
        with watch.step("layers"):
            return await run_blocking(_write_layers, request, folder, frozenset(path for path, _ in files))

    async def _send_files(
        self,
        registry: RegistryClient,
        request: ImageRequest,
        files: Sequence[tuple[PurePosixPath, FileSource]],
        log: BuildLog,
    ) -> Layer:
        """One layer of chosen files, from their store to the registry."""
        layer = FileLayer([(_WORK / path, source) for path, source in files], _progress(files, log))
        await registry.upload_stream(request.repository, layer.chunks(), lambda: layer.layer.descriptor.digest)
        return layer.layer

    async def _send(self, registry: RegistryClient, request: ImageRequest, written: _Written) -> int:
        digest, size = written.layer.descriptor.digest, written.layer.descriptor.size
        if written.file is None or await registry.has_blob(request.repository, digest):
            return 0
        if size <= _OWN_LAYER_BYTES:
            await registry.upload(request.repository, digest, await run_blocking(written.file.read_bytes))
        else:
            await registry.upload_stream(request.repository, _read(written.file), lambda: digest)
        return size

    async def _put_manifest(
        self, registry: RegistryClient, base: Base, request: ImageRequest, tag: str | None, raw: bytes
    ) -> int:
        """Store the manifest; the bytes that had to be sent again because the registry lost mounted layers."""
        name = tag or f"image-{request.image_id}"
        try:
            await registry.put_manifest(request.repository, name, raw, OCI_MANIFEST)
        except BlobUnknown:
            again = await send_missing_layers(base, request.repository)
            await registry.put_manifest(request.repository, name, raw, OCI_MANIFEST)
            return again
        return 0


def _check_buildable(code: Path) -> None:
    found = requirements_file(code)
    if found is not None:
        raise CannotBuild(f"{found.name} has requirements to install.")


def _placed_files(code: Path, files: Sequence[FileSource]) -> list[tuple[PurePosixPath, FileSource]]:
    """Chosen files with their checked paths below the work directory. Raises `BuildError`."""
    root = code.resolve()
    return [(PurePosixPath(safe_file_path(root, one.path).relative_to(root)), one) for one in files]


def _grouped(
    files: Sequence[tuple[PurePosixPath, FileSource]],
) -> list[list[tuple[PurePosixPath, FileSource]]]:
    """The largest files alone, the others together."""
    by_size = sorted(files, key=lambda one: (-one[1].size, one[0].parts))
    alone = [one for one in by_size[:_MOST_FILE_LAYERS] if one[1].size >= _OWN_LAYER_BYTES]
    rest = by_size[len(alone) :]
    alone.sort(key=lambda one: one[0].parts)
    return [*([one] for one in alone), *([rest] if rest else [])]


def _write_layers(request: ImageRequest, folder: Path, skip: frozenset[PurePosixPath]) -> list[_Written]:
    """The layers that are small enough to lie on the disk: server, code, metadata. Blocking."""
    written = []
    home = PurePosixPath(HOME_DIRECTORY.lstrip("/"))
    if request.spec.wsgi is not None:
        server = folder / "server"
        write_wsgi_server(server)
        entries = tree_entries(server, PurePosixPath(WSGI_DIRECTORY.lstrip("/")))
        written.append(_written(folder / "server.layer", [Entry(home), *entries], "WSGI server"))
    skip |= {PurePosixPath(METADATA_FILE)}
    entries = tree_entries(folder / "code", _WORK, skip=skip)
    written.append(_written(folder / "code.layer", [Entry(home), *entries], "code"))
    metadata = Entry(_WORK / METADATA_FILE, content=metadata_bytes(request.metadata), mode=0o444)
    written.append(_written(folder / "metadata.layer", [metadata], METADATA_FILE))
    return written


def _written(file: Path, entries: Sequence[Entry], about: str) -> _Written:
    return _Written(write_layer(file, entries, about), file)


def _progress(files: Sequence[tuple[PurePosixPath, FileSource]], log: BuildLog) -> Any:
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
