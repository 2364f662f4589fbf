"""A platform to be broken."""

from collections.abc import Iterator

import pytest

from slipway_testing.git_servers import GitHttpServer
from tests.chaos.support.ground import Ground, linked_project
from tests.chaos.support.plan import chosen_runtime
from tests.chaos.support.site import Site
from tests.e2e.support.api import Api
from tests.e2e.support.platform import Platform


@pytest.fixture(scope="module")
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A platform for the tests of one module: one process per service, four slots."""
    platform = Platform(chosen_runtime())
    git_server = GitHttpServer(tmp_path_factory.mktemp("git-server"))
    failures_before = request.session.testsfailed
    try:
        platform.start()
        with Api(platform.url, platform.credentials["token"]) as api:
            project, commit = linked_project(api, git_server, tmp_path_factory.mktemp("checkout") / "storm")
            yield Ground(Site(platform), api, project, commit)
    finally:
        platform.stop()
        git_server.close()
        if request.session.testsfailed > failures_before:
            print(platform.output[-8000:])
            print(platform.service_logs())
        platform.delete()
