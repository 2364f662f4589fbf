"""Builders in a row, and what nothing refers to any more."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from slipway_builder.images.builders.append import AppendBuilder
from slipway_builder.images.builders.fake import FakeBuilder
from slipway_builder.images.chain import BuilderChain, open_builders
from slipway_builder.images.options import BuilderOptions
from slipway_builder.images.protocol import BuildError, BuiltImage
from slipway_builder.images.registry.cleanup import clean_up
from slipway_builder.images.registry.client import RegistryClient
from slipway_kit.errors import NotFound
from slipway_testing.conformance.image_builder import ImageBuilderConformance
from slipway_testing.image_requests import Requests

pytestmark = pytest.mark.registry


class TestFake(ImageBuilderConformance):
    """The fake keeps to the suite."""

    @pytest.fixture
    def builder(self, options: BuilderOptions) -> FakeBuilder:
        return FakeBuilder(options)

    @pytest.fixture
    def denied(self) -> str:
        return "registry.example.com/denied:1"

    @pytest.fixture
    def read(self, builder: FakeBuilder) -> object:
        async def remembered(built: BuiltImage, path: str) -> bytes:
            return builder.images[built.digest][path]

        return remembered


@pytest.fixture
async def append(options: BuilderOptions) -> AsyncIterator[AppendBuilder]:
    made = AppendBuilder(options)
    yield made
    await made.aclose()


async def test_the_next_builder_takes_what_the_first_cannot(
    append: AppendBuilder, options: BuilderOptions, requests: Requests
) -> None:
    fake = FakeBuilder(options)
    chain = BuilderChain([append, fake])
    lines: list[str] = []
    plain = await chain.build(requests.make(), lines.append)
    assert plain.digest not in fake.images
    installed = await chain.build(requests.make(code={"requirements.txt": b"numpy\n"}), lines.append)
    assert installed.digest in fake.images
    assert any("append cannot build this" in line for line in lines)


async def test_the_first_reason_is_given_when_no_builder_has_the_base(
    append: AppendBuilder, options: BuilderOptions, requests: Requests
) -> None:
    chain = BuilderChain([append, FakeBuilder(options)])
    with pytest.raises(BuildError, match=r"nowhere/missing:1\b"):
        await chain.build(requests.make(base=f"{requests.access.host}/nowhere/missing:1"), _quiet)


async def test_that_no_builder_can_is_said_with_each_reason(append: AppendBuilder, requests: Requests) -> None:
    chain = BuilderChain([append])
    with pytest.raises(BuildError, match=r"append: requirements\.txt"):
        await chain.build(requests.make(code={"requirements.txt": b"numpy\n"}), _quiet)


async def test_builders_are_found_by_name(options: BuilderOptions) -> None:
    chain = open_builders(["append", "docker", "fake"], options)
    await chain.aclose()
    with pytest.raises(NotFound, match="append, buildkit, docker, fake"):
        open_builders(["kaniko"], options)


async def test_clean_up_says_first_and_deletes_only_what_is_asked(
    append: AppendBuilder, requests: Requests, client: RegistryClient
) -> None:
    prefix = f"clean{uuid4().hex}"
    kept = await append.build(requests.make(repository=f"{prefix}/one", code={"a": b"1"}), _quiet)
    gone = await append.build(requests.make(repository=f"{prefix}/one", code={"a": b"2"}), _quiet)
    other = await append.build(requests.make(repository=f"{prefix}-other/one", code={"a": b"3"}), _quiet)
    planned = await clean_up(client, prefix, {kept.digest})
    assert planned.deleted == (f"{prefix}/one@{gone.digest}",)
    assert planned.dry_run
    assert await client.find_manifest(f"{prefix}/one", gone.digest) == gone.digest
    done = await clean_up(client, prefix, {kept.digest}, dry_run=False)
    assert (done.deleted, done.kept) == (planned.deleted, 1)
    assert await client.find_manifest(f"{prefix}/one", gone.digest) is None
    assert await client.find_manifest(f"{prefix}/one", kept.digest) == kept.digest
    assert await client.find_manifest(f"{prefix}-other/one", other.digest) == other.digest
    left = await client.tags(f"{prefix}/one")
    assert kept.digest.replace(":", "-") in left
    assert gone.digest.replace(":", "-") not in left
    assert (await clean_up(client, prefix, {kept.digest}, dry_run=False)).deleted == ()
    again = await append.build(requests.make(repository=f"{prefix}/one", code={"a": b"2"}), _quiet)
    assert again.digest == gone.digest


def _quiet(line: str) -> None:
    pass
