"""The pytest plugin: registers every fixture and rule of this package (entry point `slipway`)."""

from slipway_testing.servers import (
    database_url,
    free_port,
    postgres_server,
    server_home,
    template_database,
    valkey_server,
    valkey_url,
)

__all__ = [
    "database_url",
    "free_port",
    "postgres_server",
    "server_home",
    "template_database",
    "valkey_server",
    "valkey_url",
]
