"""The pytest plugin: registers every fixture and rule of this package (entry point `slipway`)."""

from pathlib import PurePosixPath

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from slipway_testing.git_servers import git_http_server, git_ssh_server
from slipway_testing.groups import GROUPS, GroupRules
from slipway_testing.kubernetes.fixtures import kubernetes_cluster, namespace
from slipway_testing.ports import free_port
from slipway_testing.registries import registry, secure_registry, token_registry
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
    "kubernetes_cluster",
    "moto_endpoint",
    "moto_s3",
    "namespace",
    "postgres_server",
    "pytest_configure",
    "pytest_xdist_make_scheduler",
    "real_s3",
    "registry",
    "secure_registry",
    "server_home",
    "template_database",
    "token_registry",
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


class ByPlatform(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Keeps a file's tests on one worker process, and on one all that share what is slow to start.

    That is the platform of e2e and of a folder of chaos, and the cluster.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        for shared in ("e2e", "cluster"):
            if shared in path.parts:
                return shared
        return str(path.parent if "chaos" in path.parts else path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPlatform:
    """Distribute tests of a run with `-n` by what they share."""
    return ByPlatform(config, log)
