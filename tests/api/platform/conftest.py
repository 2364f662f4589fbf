from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_kit.logging import configure
from tests.api.platform.population import Estate, settle
from tests.api.platform.services import Services, running_services


@pytest.fixture(scope="session")
def services(postgres_server: Any, valkey_server: Any, server_home: Path) -> Iterator[Services]:
    """The control plane, started once per test process; tests make users and projects of their own."""
    configure("test", "ERROR", json=True)
    with running_services(postgres_server, valkey_server.url, server_home / "platform") as running:
        yield running


@pytest.fixture(scope="session")
def alice(services: Services) -> Iterator[Estate]:
    """A user with an object of every kind."""
    made = settle(services, "alice")
    yield made
    made.client.close()
