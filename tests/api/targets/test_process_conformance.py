"""The process target does what every target does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway_builder.targets.process.target import ProcessTarget
from slipway_builder.targets.protocol import EndpointRevision
from slipway_testing.conformance.target import MakeRevision, MakeTarget, TargetConformance, revision_of

BUNDLE = "bundle:nothing"


@pytest.fixture
async def make_target(tmp_path: Path) -> AsyncIterator[MakeTarget]:
    """Targets with a home per installation."""
    made: list[ProcessTarget] = []

    async def make(installation: str) -> ProcessTarget:
        target = ProcessTarget(tmp_path / installation)
        target.bundles.code(BUNDLE).mkdir(parents=True, exist_ok=True)
        (target.bundles.code(BUNDLE) / ".home").mkdir(exist_ok=True)
        made.append(target)
        return target

    yield make
    for target in made:
        await target.end_all()
        await target.aclose()


@pytest.fixture
def make_revision() -> MakeRevision:
    """Revisions that run Python programs on an empty bundle."""

    def make(program: str) -> EndpointRevision:
        return revision_of(program, image=BUNDLE)

    return make


class TestProcessTarget(TargetConformance):
    """One process for each endpoint."""

    has_replicas = False
    pulls_images = False
    limits_memory = False
    test_an_image_that_cannot_be_had_is_named = None  # type: ignore[assignment] # there are no images
    test_a_server_that_needs_too_much_memory_is_explained = None  # type: ignore[assignment] # and no limits
    test_replicas_come_and_go_and_the_first_serves_on = None  # type: ignore[assignment] # and one replica
