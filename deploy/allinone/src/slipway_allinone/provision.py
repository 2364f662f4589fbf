"""What an installation needs before its services start, and the first accounts after it. All of it can be run again."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from slipway_db import MigrationSpec, bootstrap, migrate
from slipway_kit.keys import generate_keypair
from slipway_gateway.database import MIGRATIONS as GATEWAY
from slipway_logs.spec import MIGRATIONS as LOGS
from slipway_scheduler.database import MIGRATIONS as SCHEDULER

from slipway_allinone.configuration import SIGNERS
from slipway_allinone.home import Home

OWNERS: tuple[MigrationSpec, ...] = (GATEWAY, SCHEDULER, LOGS)
ADMIN = "admin"
ENVIRONMENT = "local"


@dataclass(frozen=True)
class Credentials:
    """How to log in; kept in `<home>/credentials.json`, mode 0600."""

    url: str
    username: str
    password: str
    token: str

    def save(self, home: Home) -> None:
        """Write the file, whole or not at all."""
        temporary = home.credentials.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self.__dict__, file, indent=2)
            file.write("\n")
        temporary.replace(home.credentials)

    @classmethod
    def load(cls, home: Home) -> "Credentials | None":
        """Read the file; None when there is none."""
        if not home.credentials.exists():
            return None
        return cls(**json.loads(home.credentials.read_text()))


def make_keys(home: Home) -> None:
    """One Ed25519 key pair per service."""
    for name in SIGNERS:
        private = home.keys / f"{name}.pem"
        if not private.exists():
            generate_keypair(private, home.trusted / f"{name}.pub.pem")


async def prepare_database(admin_url: str, passwords: Mapping[str, str], url_of: Mapping[str, str]) -> None:
    """Roles, schemas and grants, then the migrations of every owner."""
    await bootstrap(admin_url, OWNERS, passwords)
    await migrate(url_of, OWNERS)


def new_password() -> str:
    """A password for the first administrator."""
    return secrets.token_urlsafe(12)
