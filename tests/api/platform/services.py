"""All services of the control plane as real servers in one thread, on a real Postgres and Valkey."""

import asyncio
import json
import secrets
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import uvloop

from slipway_builder.database import MIGRATIONS as BUILDER_MIGRATIONS
from slipway_builder.settings import BuilderSettings
from slipway_builder.spec import SPEC as BUILDER
from slipway_db import bootstrap, migrate
from slipway_gateway.database import MIGRATIONS as GATEWAY_MIGRATIONS
from slipway_gateway.identity.admin import Administration
from slipway_gateway.settings import GatewaySettings
from slipway_gateway.spec import SPEC as GATEWAY
from slipway_kit.auth import AttemptSigner, ServiceSigner
from slipway_kit.keys import generate_keypair, load_private
from slipway_kit.service import Supervisor
from slipway_logs.settings import LogsSettings
from slipway_logs.spec import MIGRATIONS as LOGS_MIGRATIONS
from slipway_logs.spec import SPEC as LOGS
from slipway_scheduler.database import MIGRATIONS as SCHEDULER_MIGRATIONS
from slipway_scheduler.settings import SchedulerSettings
from slipway_scheduler.spec import SPEC as SCHEDULER
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetDraft
from slipway_testing.ports import unused_port
from slipway_testing.roles import ROLE_PASSWORDS, service_url

T = TypeVar("T")

MIGRATIONS = [SCHEDULER_MIGRATIONS, GATEWAY_MIGRATIONS, LOGS_MIGRATIONS, BUILDER_MIGRATIONS]
APPS = {
    "gateway": ("public", "workers", "internal"),
    "scheduler": ("workers", "internal"),
    "logs": ("public", "workers", "internal"),
    "builder": ("internal",),
}
_SECONDS = 60


@dataclass
class Services:
    """The running control plane."""

    admin_url: str
    home: Path
    ports: dict[str, dict[str, int]]
    contexts: dict[str, Any] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=uvloop.new_event_loop)

    def url(self, service: str, app: str) -> str:
        """Origin of one app."""
        return f"http://127.0.0.1:{self.ports[service][app]}"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the services run."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_SECONDS)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement as the database's administrator."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.admin_url)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return self.call(run())

    def token_of(self, name: str, *organizations: str, admin: bool = False) -> str:
        """A token of a new user, who is a member of these organizations; they are made where they are missing."""

        async def make() -> str:
            accounts = Administration(service_url(self.admin_url, "gateway"), self.home / "pepper")
            try:
                await accounts.add_user(name, password="correct horse", email=f"{name}@slipway.test", is_admin=admin)
                for organization in organizations:
                    await accounts.add_member(organization, name, is_admin=True)
                return (await accounts.issue_token(name)).value
            finally:
                await accounts.close()

        return self.call(make())

    def add_organization(self, name: str) -> None:
        """Make an organization."""

        async def make() -> None:
            accounts = Administration(service_url(self.admin_url, "gateway"), self.home / "pepper")
            try:
                await accounts.add_organization(name)
            finally:
                await accounts.close()

        self.call(make())

    def service_token(self, caller: str, audience: str) -> str:
        """What `caller` shows at the internal app of `audience`."""
        return ServiceSigner(caller, load_private(self.home / f"{caller}.pem")).token(audience)

    @property
    def attempt_signer(self) -> AttemptSigner:
        """The scheduler's signature of attempt tokens."""
        return AttemptSigner(load_private(self.home / "scheduler.pem"))


def _settings(services: Services, valkey_url: str) -> list[tuple[Any, Any]]:
    home, ports = services.home, services.ports
    origin = services.url("gateway", "public")
    neighbours = {name: services.url(name, "internal") for name in ("scheduler", "logs", "builder", "gateway")}
    store = {"type": "local", "path": home / "store", "signing_key": "s" * 40, "public_url": origin}

    def common(name: str) -> dict[str, Any]:
        return {
            "database": {"url": service_url(services.admin_url, name), "pool_size": 8},
            "redis": {"url": valkey_url},
            "keys": {"private_key_file": home / f"{name}.pem", "trusted_keys_dir": home / "trusted"},
            "http": {f"{app}_port": port for app, port in ports[name].items()},
            "log": {"level": "WARNING", "json": True},
            "token_pepper_file": home / "pepper",
        }

    gateway = GatewaySettings.model_validate(
        {
            **common("gateway"),
            "neighbours": neighbours,
            "public_url": origin,
            "secret_key_file": home / "kek",
            "store": store,
            "git": {"cache_dir": home / "git", "allow_local_paths": [home / "repositories"]},
            "egress": {"allow_control_plane": ["127.0.0.0/8"]},
            "upload_dir": home / "uploads",
        }
    )
    scheduler = SchedulerSettings.model_validate({**common("scheduler"), "leases": {"hold_seconds": 0.2}})
    logs = LogsSettings.model_validate({**common("logs"), "store": store})
    builder = BuilderSettings.model_validate(
        {
            **{key: value for key, value in common("builder").items() if key != "token_pepper_file"},
            "neighbours": neighbours,
            "work_dir": home / "builds",
            "secret_key_file": home / "kek",
            "process": {"home": home / "serving", "ends_with_builder": True, "hidden": [home]},
        }
    )
    return [(SCHEDULER, scheduler), (LOGS, logs), (GATEWAY, gateway), (BUILDER, builder)]


async def _make_database(server: Any, name: str) -> str:
    url: str = await server.create_database(name)
    await bootstrap(url, MIGRATIONS, {spec.service: ROLE_PASSWORDS[spec.service] for spec in MIGRATIONS})
    await migrate(lambda service: service_url(url, service), MIGRATIONS)
    return url


@contextmanager
def running_services(postgres_server: Any, valkey_url: str, home: Path) -> Iterator[Services]:
    """Start everything; what crashes at the start is raised here."""
    name = f"platform_{secrets.token_hex(4)}"
    url = asyncio.run(_make_database(postgres_server, name))
    (home / "repositories").mkdir(parents=True)
    (home / "kek").write_bytes(secrets.token_bytes(32))
    (home / "pepper").write_text(secrets.token_hex(32))
    for service in (*APPS, "stranger"):
        trusted = home / ("elsewhere" if service == "stranger" else "trusted")
        generate_keypair(home / f"{service}.pem", trusted / f"{service}.pub.pem")
    ports = {service: {app: unused_port() for app in apps} for service, apps in APPS.items()}
    services = Services(url, home, ports)
    supervisor = Supervisor(_settings(services, valkey_url))
    started = threading.Event()
    stopping = asyncio.Event()
    failure: list[BaseException] = []

    async def run() -> None:
        async with supervisor.running():
            services.contexts.update(supervisor.contexts)
            await supervisor.contexts["scheduler"].doorbell.wait_connected(10)
            target = TargetDraft(
                name="local", kind=TargetKind.PROCESS, public_url="http://127.0.0.1:9", is_default=True
            )
            builder = supervisor.contexts["gateway"].builder
            await builder.post("/internal/v1/targets", body=target)
            started.set()
            await stopping.wait()

    def main() -> None:
        try:
            services.loop.run_until_complete(run())
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
            failure.append(error)
        finally:
            services.loop.run_until_complete(services.loop.shutdown_asyncgens())
            services.loop.close()
            started.set()

    thread = threading.Thread(target=main, name="services")
    thread.start()
    started.wait(_SECONDS)
    try:
        if failure:
            raise failure[0]
        yield services
    finally:
        if not failure:
            services.loop.call_soon_threadsafe(stopping.set)
        thread.join(_SECONDS)
        asyncio.run(postgres_server.drop_database(name))
    if failure:
        raise failure[0]


def as_json(value: Any) -> str:
    """JSON text for a column."""
    return json.dumps(value)
