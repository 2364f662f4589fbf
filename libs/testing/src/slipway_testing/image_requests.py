"""Requests for images, and small base images, for tests of image builders."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any
from uuid import uuid4

from slipway_builder.images.protocol import FileSource, ImageRequest, RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.manifests import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    canonical_json,
    digest_of,
)
from slipway_schemas.inference.versions import EndpointSpec
from slipway_testing.registries import Registry

BUSYBOX = Path("/bin/busybox")
DOCUMENT: dict[str, Any] = {"deployment": "greeter", "version": "20260101.0", "meta": {"ctime": "2026-01-01T00:00:00Z"}}

SERVER: Mapping[str, bytes] = MappingProxyType({"serve.sh": b"exec httpd -f -p 8000 -h .\n"})


def access_to(registry: Registry) -> RegistryAccess:
    """As builders take it."""
    return RegistryAccess(
        registry.host,
        registry.username,
        registry.password,
        ca_file=registry.ca_file,
        plain_http=registry.ca_file is None,
    )


def code_archive(path: Path, files: Mapping[str, bytes], *, mtime: int = 0) -> Path:
    """A commit's files as a gzip-compressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=mtime))
    return path


def file_source(path: str, data: bytes, *, size: int | None = None) -> FileSource:
    """A chosen file whose bytes are at hand; `size`: what its store says, if that is wrong."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    return FileSource(path, len(data) if size is None else size, hashlib.sha256(data).hexdigest(), chunks)


def busybox_layer(extra: Mapping[str, bytes] | None = None) -> bytes:
    """A root file system of about 2 MB that has a shell and a web server."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        if BUSYBOX.exists():
            member = tarfile.TarInfo("bin/busybox")
            member.mode, member.size = 0o755, BUSYBOX.stat().st_size
            with BUSYBOX.open("rb") as file:
                tar.addfile(member, file)
        for name in ("sh", "id", "cat", "ls", "httpd", "sleep", "stat", "touch"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, data in (extra or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


async def push_saved(access: RegistryAccess, repository: str, tag: str, saved: Path) -> str:
    """Push what `docker save` wrote, uncompressed; its digest."""
    client = RegistryClient(access)
    try:
        with tarfile.open(saved) as tar:
            (image,) = json.load(_member(tar, "manifest.json"))
            layers = []
            for name in image["Layers"]:
                digest = hashlib.sha256()
                await client.upload_stream(repository, _hashed(_member(tar, name), digest), partial(_named, digest))
                layers.append(Descriptor(OCI_LAYER, _named(digest), tar.getmember(name).size))
            return await _push(client, repository, tag, layers, _member(tar, image["Config"]).read())
    finally:
        await client.aclose()


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    assert found is not None
    return found


def _named(digest: "hashlib._Hash") -> str:
    return f"sha256:{digest.hexdigest()}"


async def _hashed(file: IO[bytes], digest: "hashlib._Hash") -> AsyncIterator[bytes]:
    while chunk := file.read(1024 * 1024):
        digest.update(chunk)
        yield chunk


async def push_image(
    client: RegistryClient, repository: str, tag: str, layers: list[bytes], config: Mapping[str, Any] | None = None
) -> str:
    """Push a base image made of uncompressed layers; its digest."""
    described = []
    for layer in layers:
        await client.upload(repository, digest_of(layer), layer)
        described.append(Descriptor(OCI_LAYER, digest_of(layer), len(layer)))
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [one.digest for one in described]},
    }
    return await _push(client, repository, tag, described, canonical_json(document))


async def _push(
    client: RegistryClient, repository: str, tag: str, described: list[Descriptor], raw_config: bytes
) -> str:
    await client.upload(repository, digest_of(raw_config), raw_config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor(OCI_CONFIG, digest_of(raw_config), len(raw_config)).document(),
        "layers": [one.document() for one in described],
    }
    return await client.put_manifest(repository, tag, canonical_json(manifest), OCI_MANIFEST)


class Requests:
    """Makes requests that differ only in what a test names."""

    def __init__(
        self, access: RegistryAccess, base: str, folder: Path, sources: tuple[RegistryAccess, ...] = ()
    ) -> None:
        self.access = access
        self.base = base
        self.sources = sources
        self._folder = folder

    def make(
        self,
        *,
        code: Mapping[str, bytes] | Path | None = None,
        files: tuple[FileSource, ...] = (),
        base: str | None = None,
        spec: Callable[[EndpointSpec], EndpointSpec] = lambda spec: spec,
        repository: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> ImageRequest:
        """A request for an image of its own repository, if none is named."""
        if isinstance(code, Path):
            archive = code
        else:
            archive = self._folder / f"{uuid4().hex}.tar.gz"
            code_archive(archive, SERVER if code is None else code)
        server = EndpointSpec(name="greet", image=base or self.base, server_command=("sh serve.sh",))
        return ImageRequest(
            image_id=uuid4(),
            base=base or self.base,
            registry=self.access,
            repository=repository or f"tests/{uuid4().hex}",
            code=archive,
            files=files,
            metadata=DOCUMENT if metadata is None else metadata,
            spec=spec(server),
            sources=self.sources,
        )
