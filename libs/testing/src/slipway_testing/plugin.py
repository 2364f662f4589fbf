"""The pytest plugin: registers every fixture and rule of this package (entry point `slipway`)."""

import pytest

from slipway_testing.git_servers import git_http_server, git_ssh_server
from slipway_testing.groups import GROUPS, GroupRules
from slipway_testing.ports import free_port
from slipway_testing.s3 import moto_endpoint, moto_s3, real_s3
from slipway_testing.servers import (
    database_url,
    postgres_server,
    server_home,
    template_database,
    valkey_server,
    valkey_url,
)
from slipway_testing.sockets import _sockets_off
from slipway_testing.vh import vh

__all__ = [
    "_sockets_off",
    "database_url",
    "free_port",
    "git_http_server",
    "git_ssh_server",
    "moto_endpoint",
    "moto_s3",
    "postgres_server",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "real_s3",
    "server_home",
    "template_database",
    "valkey_server",
    "valkey_url",
    "vh",
]


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the rules of the groups."""
    for name, group in GROUPS.items():
        config.addinivalue_line("markers", f"{name}: {group.about}")
    config.addinivalue_line("markers", "sockets: a unit or property test that may open network connections")
    config.pluginmanager.register(GroupRules(config), "slipway_groups")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests on one worker process, and on one all that share platforms: e2e, and a folder of chaos."""
    for item in items:
        parts = item.path.parts
        group = "e2e" if "e2e" in parts else item.path.parent if "chaos" in parts else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))
