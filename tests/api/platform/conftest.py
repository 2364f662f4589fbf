import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway_allinone.embedded import EmbeddedValkey, ValkeyOptions
from slipway_kit.logging import configure
from tests.api.platform.population import Estate, settle
from tests.api.platform.services import Services, running_services


@pytest.fixture(scope="session")
def services(postgres_server: Any, server_home: Path) -> Iterator[Services]:
    """The control plane, started once per test process; tests make users and projects of their own.

    It has a Valkey of its own: it lives on beside later tests, whose Valkey is emptied and must have no other reader.
    """
    configure("test", "ERROR", json=True)
    home = server_home / "platform"
    valkey = EmbeddedValkey(home, ValkeyOptions(durable=False))
    asyncio.run(valkey.start())
    try:
        with running_services(postgres_server, valkey.url, home) as running:
            yield running
    finally:
        asyncio.run(valkey.destroy())


@pytest.fixture(scope="session")
def alice(services: Services) -> Iterator[Estate]:
    """A user with an object of every kind."""
    made = settle(services, "alice")
    yield made
    made.client.close()
