"""The registry client against real registries, and against ones that behave worse."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, RegistryAccess
from slipway_builder.images.registry.bases import find_base, mount_layers
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.errors import ImageDenied, RegistryUnreachable
from slipway_builder.images.registry.manifests import digest_of
from slipway_builder.images.registry.references import ImageReference, api_host, parse_reference
from slipway_kit.errors import Unavailable
from slipway_testing.image_requests import Requests, access_to, busybox_layer, push_image
from slipway_testing.registries import Registry

pytestmark = pytest.mark.registry
A = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", "latest", None),
        ("python:3.11", "docker.io", "library/python", "3.11", None),
        ("me/python:3.11", "docker.io", "me/python", "3.11", None),
        ("docker.io/python", "docker.io", "library/python", "latest", None),
        ("index.docker.io/me/python", "docker.io", "me/python", "latest", None),
        ("localhost/python", "localhost", "python", "latest", None),
        ("localhost:5000/a/b:c", "localhost:5000", "a/b", "c", None),
        ("ghcr.io/a/b/c__d:1.0", "ghcr.io", "a/b/c__d", "1.0", None),
        (f"ghcr.io/a/b@{A}", "ghcr.io", "a/b", None, A),
        (f"ghcr.io/a/b:1@{A}", "ghcr.io", "a/b", "1", A),
    ],
)
def test_references_are_read_as_docker_reads_them(
    text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert parse_reference(text) == ImageReference(host, repository, tag, digest)


def test_docker_hub_is_asked_where_it_answers() -> None:
    assert api_host("docker.io") == "registry-1.docker.io"
    assert api_host("ghcr.io") == "ghcr.io"


@pytest.mark.parametrize("text", ["", ":1", "a//b", "A/b/..", "a b", "a@sha256:12", "a:b/c", "ghcr.io/", "x.y/UPPER"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="cannot be read"):
        parse_reference(text)


async def test_tokens_are_asked_for_single_repositories(token_registry: Registry) -> None:
    client = RegistryClient(access_to(token_registry))
    everybody = RegistryClient(replace(access_to(token_registry), username=None, password=None))
    wrong = RegistryClient(replace(access_to(token_registry), password="wrong"))
    try:
        digest = await push_image(client, "public/base", "1", [busybox_layer()])
        await push_image(client, "private/base", "1", [busybox_layer()])
        base = await find_base(client, parse_reference(f"{token_registry.host}/public/base:1"), "linux/amd64")
        assert await mount_layers(base, "private/mounted") == 0
        assert await client.has_blob("private/mounted", base.image.layers[0].digest)
        assert await everybody.find_manifest("public/base", "1") == digest
        with pytest.raises(ImageDenied, match="give Slipway a login"):
            await everybody.manifest("private/base", "1")
        with pytest.raises(ImageDenied, match="gives the login slipway no access"):
            await wrong.manifest("private/base", "1")
    finally:
        for one in (client, everybody, wrong):
            await one.aclose()


async def test_tags_are_listed_beyond_one_page(client: RegistryClient) -> None:
    repository = f"many{uuid4().hex}"
    await push_image(client, repository, "t0", [busybox_layer()])
    raw = await client.manifest(repository, "t0")
    for number in range(1, 130):
        await client.put_manifest(repository, f"t{number}", raw.raw, raw.media_type)
    assert sorted(await client.tags(repository)) == sorted(f"t{number}" for number in range(130))
    assert repository in await client.repositories()
    assert await client.tags("there/is/none") == []


async def test_a_mount_that_the_registry_declines_is_sent(
    client: RegistryClient, access: RegistryAccess, options: BuilderOptions, requests: Requests
) -> None:
    """It answers 202 with an upload instead of 201, as registries may."""
    await push_image(client, "bases/unmounted", "1", [busybox_layer(), busybox_layer({"etc/two": b"2"})])
    builder = AppendBuilder(options)
    seen: list[bytes] = []
    stored: list[bytes] = []

    def decline(request: bytes) -> bytes:
        stored.extend(re.findall(rb"^PUT \S+/manifests/v-", request))
        seen.extend(re.findall(rb"\?mount=\S+", request))
        return re.sub(rb"\?mount=\S+", b"", request)

    try:
        async with _between(access, decline) as through:
            requests.access = replace(access, host=through)
            made = requests.make(base=f"{through}/bases/unmounted:1")
            built = await builder.build(made, _quiet)
        assert len(seen) == 2
        assert len(stored) == 1
        assert built.pushed > 2 * 1_900_000
        assert (await client.manifest(made.repository, built.digest)).digest == built.digest
    finally:
        await builder.aclose()


async def test_layers_that_are_gone_before_the_manifest_comes_are_sent(
    client: RegistryClient,
    access: RegistryAccess,
    registry: Registry,
    options: BuilderOptions,
    requests: Requests,
) -> None:
    """A registry's garbage collection takes them between the mount and the manifest."""
    await push_image(client, "bases/collected", "1", [busybox_layer({"etc/rare": b"rare"})])
    layer = (await client.manifest("bases/collected", "1")).document["layers"][0]["digest"]
    repository = f"collected{uuid4().hex}"
    link = registry.root / "docker/registry/v2/repositories" / repository / "_layers/sha256" / layer[7:] / "link"
    taken: list[bool] = []

    def collect(request: bytes) -> bytes:
        if not taken and request.startswith(f"PUT /v2/{repository}/manifests/".encode()):
            taken.append(link.exists())
            link.unlink()
        return request

    builder = AppendBuilder(options)
    try:
        async with _between(access, collect) as through:
            requests.access = replace(access, host=through)
            made = requests.make(base=f"{through}/bases/collected:1", repository=repository)
            built = await builder.build(made, _quiet)
    finally:
        await builder.aclose()
    assert taken == [True]
    assert built.pushed > 1_900_000
    assert await client.has_blob(repository, layer)


async def test_a_failure_that_passes_is_not_seen(access: RegistryAccess, client: RegistryClient) -> None:
    await push_image(client, "bases/flaky", "1", [busybox_layer()])
    left = [2]

    def break_off(request: bytes) -> bytes | None:
        if b"/manifests/" in request and left[0]:
            left[0] -= 1
            return None
        return request

    async with _between(access, break_off) as through:
        flaky = RegistryClient(replace(access, host=through))
        try:
            assert (await flaky.manifest("bases/flaky", "1")).document["layers"]
            left[0] = 10
            with pytest.raises(Unavailable):
                await flaky.manifest("bases/flaky", "1")
        finally:
            await flaky.aclose()


async def test_an_upload_whose_source_breaks_says_so(client: RegistryClient) -> None:
    repository = f"broken{uuid4().hex}"

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise Unavailable("the store went away")

    with pytest.raises(Unavailable, match="the store went away"):
        await client.upload_stream(repository, chunks(), lambda: A)
    assert not await client.has_blob(repository, A)


async def test_a_blob_with_other_bytes_is_refused(client: RegistryClient, registry: Registry) -> None:
    data = busybox_layer({"etc/damaged": b"1"})
    digest = digest_of(data)
    await client.upload("damaged", digest, data)
    stored = registry.root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"
    stored.write_bytes(b"other" + stored.read_bytes()[5:])
    with pytest.raises(RegistryUnreachable, match="other bytes"):
        await client.blob("damaged", digest)


@asynccontextmanager
async def _between(access: RegistryAccess, change: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    """A connection to the registry that changes requests, or with None breaks off; gives its host."""
    host, _, port = access.host.partition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(host, int(port))

        async def back() -> None:
            while data := await their_reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        answering = asyncio.create_task(back())
        try:
            while data := await reader.read(1024 * 1024):
                changed = change(data)
                if changed is None:
                    break
                their_writer.write(changed)
                await their_writer.drain()
        except ConnectionError:
            pass
        finally:
            their_writer.close()
            answering.cancel()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _quiet(line: str) -> None:
    pass
