"""Both engines, each as a process of its own, with a builder and two pods that stay for a file's tests."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest
import pytest_asyncio

from slipway_kit.ids import new_id
from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.pods import Pod
from slipway_testing.router_process import running_router
from tests.api.router.support import Site

ENGINES = [pytest.param("haproxy", marks=pytest.mark.haproxy), "relay"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def shared_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Router, builder and pods."""
    builder = RoutingNeighbour()
    builder.put()
    home = tmp_path_factory.mktemp("router")
    engine = cast(str, request.param)
    async with (
        ServedApp(builder.app) as app,
        Pod("one") as one,
        Pod("two") as two,
        running_router(builder, app.url, home, engine, report_seconds="1", threads="2") as router,
    ):
        yield Site(builder, router, one, two, app)


@pytest.fixture
def site(shared_site: Site) -> Site:
    """A deployment of the test's own on the file's router."""
    return replace(shared_site, deployment_id=new_id(), v1=new_id(), v2=new_id())
