"""The Docker target does what every target does."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from slipway_builder.targets.docker.target import DockerTarget
from slipway_builder.targets.protocol import EndpointRevision
from slipway_testing.conformance.target import MakeRevision, MakeTarget, TargetConformance, revision_of
from slipway_testing.tools import TEST_IMAGE

pytestmark = pytest.mark.docker


@pytest.fixture
async def make_target() -> AsyncIterator[MakeTarget]:
    """Targets on this host's engine, of installations that no other test has."""
    own = uuid4().hex
    made: list[DockerTarget] = []

    async def make(installation: str) -> DockerTarget:
        made.append(DockerTarget(Path("/var/run/docker.sock"), f"{installation}-{own}"))
        return made[-1]

    yield make
    for target in made:
        await target.aclose()


@pytest.fixture
def make_revision() -> MakeRevision:
    """Revisions that run Python programs in the test image."""

    def make(program: str) -> EndpointRevision:
        return revision_of(program, image=TEST_IMAGE)

    return make


class TestDockerTarget(TargetConformance):
    """One container for each endpoint."""

    has_replicas = False
