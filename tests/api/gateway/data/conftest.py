from tests.api.gateway.runs.conftest import (
    commit,
    environment,
    lab,
    machine,
    plain_logs,
    relay,
    scheduler,
    settings,
    started,
    template_database,
    workers,
)

__all__ = [
    "commit",
    "environment",
    "lab",
    "machine",
    "plain_logs",
    "relay",
    "scheduler",
    "settings",
    "started",
    "template_database",
    "workers",
]
