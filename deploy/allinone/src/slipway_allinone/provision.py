"""What an installation needs before its services start, and the first accounts after it. All of it can be run again."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from slipway_allinone.configuration import LOOPBACK, SIGNERS
from slipway_allinone.home import Home
from slipway_builder.database import MIGRATIONS as BUILDER
from slipway_builder.targets.service import TargetService
from slipway_db import Database, MigrationSpec, bootstrap, migrate
from slipway_gateway.database import MIGRATIONS as GATEWAY
from slipway_gateway.identity.domain import TokenKind
from slipway_gateway.identity.service import AccountService, TokenService
from slipway_kit.errors import NotFound
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import generate_keypair, read_pepper
from slipway_kit.vault import Vault
from slipway_logs.spec import MIGRATIONS as LOGS
from slipway_scheduler.database import MIGRATIONS as SCHEDULER
from slipway_scheduler.environments.service import EnvironmentService
from slipway_scheduler.environments.store import EnvironmentStore
from slipway_schemas.environments import EnvironmentCreate, EnvironmentSettings
from slipway_schemas.inference.statuses import TargetKind

OWNERS: tuple[MigrationSpec, ...] = (GATEWAY, SCHEDULER, LOGS, BUILDER)
TARGET = "local"
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
            json.dump(asdict(self), file, indent=2)
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
    await migrate(url_of.__getitem__, OWNERS)


async def first_accounts(
    gateway: Database, scheduler: Database, home: Home, url: str, *, allow_loopback: bool = True
) -> Credentials:
    """The first administrator with a token, and the local environment with its group token.

    What a former start has made is kept; a lost `credentials.json` gets a new token and a new password.
    """
    known = Credentials.load(home)
    credentials = known if known is not None else await _administrator(gateway, home, url)
    if credentials.url != url:
        credentials = replace(credentials, url=url)
    if credentials != known:
        credentials.save(home)
    await _local_environment(scheduler, home, LOOPBACK if allow_loopback else ())
    return credentials


async def _administrator(gateway: Database, home: Home, url: str) -> Credentials:
    password = secrets.token_urlsafe(12)
    pepper = read_pepper(home.secret("gateway-token-pepper"))
    async with gateway.transaction() as session:
        accounts = AccountService(session)
        try:
            user = await accounts.user(ADMIN)
        except NotFound:
            user = await accounts.add_user(ADMIN, password=password, is_admin=True)
        else:
            await accounts.set_password(ADMIN, password)
        issued = await TokenService(session, pepper).issue(user.id, TokenKind.API, name="First login", expires_at=None)
    return Credentials(url=url, username=ADMIN, password=password, token=issued.value)


async def _local_environment(scheduler: Database, home: Home, networks: tuple[str, ...]) -> None:
    token_file = home.keys / "worker-group-token"
    pepper = read_pepper(home.secret("scheduler-token-pepper"))
    async with scheduler.transaction() as session:
        service = EnvironmentService(session, pepper)
        found = await EnvironmentStore(session).by_slug(ENVIRONMENT)
        if found is not None:
            environment_id = found.id
        else:
            wanted = EnvironmentCreate(
                slug=ENVIRONMENT,
                name="This machine",
                description="The worker that slipway up runs beside the platform.",
                settings=EnvironmentSettings(allow_mounts=True, allow_input_networks=networks),
            )
            environment_id = (await service.create(wanted)).id
        if token_file.exists():
            return
        token = (await service.create_token(environment_id)).token
    descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)


async def local_target(builder: Database, home: Home, endpoints_url: str, kind: TargetKind) -> UUID:
    """The deployment target that serves endpoints on this machine; its URL follows the command line."""
    token = home.secret("router-token").read_text()
    async with builder.transaction() as session:
        vault = Vault(KeyRing(home.secret("builder-secret-key")))
        return await TargetService(session, vault).ensure(TARGET, kind, endpoints_url, token)
