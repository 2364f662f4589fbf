"""Registries with base images in them, and a way to look into what was built."""

import gzip
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuiltImage, RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_kit.egress import EgressRules
from slipway_testing.image_requests import Requests, access_to, busybox_layer, push_image
from slipway_testing.registries import Registry


@pytest.fixture
def access(registry: Registry) -> RegistryAccess:
    return access_to(registry)


@pytest.fixture
async def client(access: RegistryAccess) -> AsyncIterator[RegistryClient]:
    found = RegistryClient(access)
    yield found
    await found.aclose()


@pytest.fixture
async def secure_client(secure_registry: Registry) -> AsyncIterator[RegistryClient]:
    found = RegistryClient(access_to(secure_registry))
    yield found
    await found.aclose()


@pytest.fixture
async def base(client: RegistryClient, access: RegistryAccess) -> str:
    """A base image in the registry itself."""
    await push_image(client, "bases/small", "1", [busybox_layer()])
    return f"{access.host}/bases/small:1"


@pytest.fixture
async def foreign_base(secure_client: RegistryClient) -> str:
    """A base image in another registry, which wants a login."""
    await push_image(secure_client, "private/small", "1", [busybox_layer({"etc/foreign": b"yes"}), b"\0" * 1024])
    return f"{secure_client.access.host}/private/small:1"


@pytest.fixture
def nobody(secure_registry: Registry) -> RegistryAccess:
    """The other registry without a login."""
    return replace(access_to(secure_registry), username=None, password=None)


@pytest.fixture
def denied(foreign_base: str) -> str:
    return foreign_base


@pytest.fixture
def requests(access: RegistryAccess, base: str, nobody: RegistryAccess, tmp_path: Path) -> Requests:
    return Requests(access, base, tmp_path, sources=(nobody,))


@pytest.fixture
def options(tmp_path: Path) -> BuilderOptions:
    work = tmp_path / "work"
    work.mkdir()
    return BuilderOptions(work_dir=work, egress=EgressRules(["127.0.0.0/8"]))


LARGE_BASE_BYTES = 50_000_000


class Image:
    """A built image, read from the registry, without the layers of a large base."""

    def __init__(self, manifest: dict[str, Any], config: dict[str, Any], layers: list[bytes]) -> None:
        self.manifest = manifest
        self.config = config
        self.layers = layers

    def members(self) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """What all layers put where; the last one wins."""
        found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        for layer in self.layers:
            if not layer.strip(b"\0"):
                continue
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isfile() else None
                    found[member.name] = (member, b"" if file is None else file.read())
        return found


LookInto = Callable[[BuiltImage], Awaitable[Image]]


@pytest.fixture
def look_into(client: RegistryClient) -> LookInto:
    async def look(built: BuiltImage) -> Image:
        repository = built.reference.partition("/")[2].partition("@")[0]
        manifest = (await client.manifest(repository, built.digest)).document
        config = json.loads(await client.blob(repository, manifest["config"]["digest"]))
        layers = []
        for one in manifest["layers"]:
            if one["size"] > LARGE_BASE_BYTES:
                continue
            data = b"".join([chunk async for chunk in client.stream_blob(repository, one["digest"])])
            layers.append(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        return Image(manifest, config, layers)

    return look


@pytest.fixture
def read(look_into: LookInto) -> Callable[[BuiltImage, str], Awaitable[bytes]]:
    async def from_image(built: BuiltImage, path: str) -> bytes:
        return (await look_into(built)).members()[f"valohai/{path}"][1]

    return from_image
