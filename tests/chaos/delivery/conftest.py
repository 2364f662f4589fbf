"""One platform for these tests, on a Postgres that they may restart, its worker behind a proxy that breaks."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway_allinone.embedded import EmbeddedPostgres, PostgresOptions
from slipway_testing.faults import FaultProxy
from slipway_testing.git_servers import GitHttpServer
from slipway_testing.ports import unused_port
from tests.chaos.delivery.support import Bench, proxy_to
from tests.e2e.support.api import Api
from tests.e2e.support.platform import Platform


@dataclass
class Broken:
    """A platform, what it can lose, and a project on it."""

    platform: Platform
    postgres: EmbeddedPostgres
    proxy: FaultProxy
    bench: Bench

    def restart_postgres(self) -> None:
        """Stop and start the database server."""
        asyncio.run(self.postgres.stop())
        asyncio.run(self.postgres.start())


@pytest.fixture(scope="session")
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """Nothing is broken yet."""
    postgres = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="slipway-chaos-pg-")), PostgresOptions(durable=False))
    git_server = GitHttpServer(tmp_path_factory.mktemp("git-server"))
    port = unused_port()
    asyncio.run(postgres.start())
    try:
        with proxy_to(port) as proxy:
            options = ("--database-url", postgres.url, "--worker-url", proxy.url)
            platform = Platform("process", port=port, options=options)
            try:
                platform.start()
                with Api(platform.url, platform.credentials["token"]) as api:
                    bench = Bench(api, git_server, tmp_path_factory.mktemp("chaos") / "project")
                    yield Broken(platform, postgres, proxy, bench)
            finally:
                proxy.choose = lambda _: None
                code = platform.stop()
                if request.session.testsfailed:
                    print(platform.service_logs())
                platform.delete()
            assert code == 0, f"slipway up ended with {code}"
    finally:
        git_server.close()
        asyncio.run(postgres.destroy())


@pytest.fixture
def mended(broken: Broken) -> Iterator[None]:
    """Before and after each test nothing is broken."""
    broken.bench.wait_answering()
    yield
    broken.proxy.choose = lambda _: None
    broken.proxy.away = None
