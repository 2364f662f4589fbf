"""`slipway up`: servers, database, services and a worker, in order; and down again in reverse."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from slipway_allinone.configuration import (
    ORIGINS,
    Ports,
    Settings,
    UpOptions,
    environment_of,
    router_settings,
    service_settings,
)
from slipway_allinone.embedded.keeping import EmbeddedServer, keep_running
from slipway_allinone.embedded.postgres import EmbeddedPostgres
from slipway_allinone.embedded.valkey import EmbeddedValkey
from slipway_allinone.home import Home
from slipway_allinone.origin import SPEC as ORIGIN
from slipway_allinone.processes import ChildProcess, Program, running
from slipway_allinone.provision import OWNERS, Credentials, first_accounts, local_target, make_keys, prepare_database
from slipway_allinone.runs import end_zygote, running_attempts, zygote_pid
from slipway_builder.spec import SPEC as BUILDER
from slipway_builder.targets.docker.target import engine_answers
from slipway_db import Database, role_of
from slipway_db.database import url_for_role
from slipway_gateway.spec import SPEC as GATEWAY
from slipway_kit.http import OutsideError, outside_client
from slipway_kit.logging import get_logger
from slipway_kit.service import ServiceSpec, Supervisor
from slipway_kit.tasks import cancel_and_wait
from slipway_logs.spec import SPEC as LOGS
from slipway_scheduler.spec import SPEC as SCHEDULER
from slipway_schemas.inference.statuses import TargetKind
from slipway_worker.spec import SPEC as WORKER

_log = get_logger()

READY_SECONDS = 180.0
"""Longest wait for the services: far above what is normal, for machines that are busy with other things."""
SPECS: Mapping[str, ServiceSpec[Any, Any]] = {
    "gateway": GATEWAY,
    "scheduler": SCHEDULER,
    "logs": LOGS,
    "builder": BUILDER,
    "worker": WORKER,
}
MODULES = {
    "gateway": "slipway_gateway",
    "scheduler": "slipway_scheduler",
    "logs": "slipway_logs",
    "builder": "slipway_builder",
    "worker": "slipway_worker",
}

Say = Callable[[str], None]


class PlatformError(Exception):
    """The platform cannot start; the message says what to do."""


@dataclass(frozen=True)
class RunningPlatform:
    """A platform that is ready."""

    credentials: Credentials
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Servers:
    database_urls: Mapping[str, str]
    redis_url: str
    notices: tuple[str, ...]
    embedded: tuple[EmbeddedServer, ...]


class Platform:
    """One installation on this machine."""

    def __init__(self, options: UpOptions, say: Say) -> None:
        self._options = options
        self._home = Home(options.home)
        self._say = say

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RunningPlatform]:
        """Run the platform inside the block. Raises `PlatformError` and what the embedded servers raise."""
        self._home.prepare()
        with _only_one(self._home):
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._end_idle_zygote)
                make_keys(self._home)
                servers = await self._start_servers(stack)
                credentials = await self._first_accounts(servers)
                target_id = await self._local_target(servers)
                ports = Ports.pick()
                settings = service_settings(self._options, self._home, ports, servers.database_urls, servers.redis_url)
                for name in SPECS:
                    self._home.save_environment(name, environment_of(name, settings[name]))
                settings["router"] = router_settings(self._options, self._home, ports, target_id)
                children = await self._start_services(stack, settings)
                lister = asyncio.create_task(self._list_processes(servers.embedded, children))
                stack.push_async_callback(cancel_and_wait, lister)
                await self._wait_ready(ports)
                yield RunningPlatform(credentials, servers.notices)

    async def _end_idle_zygote(self) -> None:
        """When no run goes on, nothing of the platform stays behind on the machine."""
        if not running_attempts(self._home):
            await end_zygote(self._home)

    async def _start_servers(self, stack: AsyncExitStack) -> _Servers:
        notices: tuple[str, ...] = ()
        embedded: list[EmbeddedServer] = []
        if self._options.database_url is not None:
            admin_url = self._options.database_url
            passwords = {spec.service: self._home.secret(f"postgres-{spec.service}").read_text() for spec in OWNERS}
            urls = {
                spec.service: url_for_role(admin_url, role_of(spec.service), passwords[spec.service]) for spec in OWNERS
            }
        else:
            self._say("Starting Postgres ...")
            postgres = EmbeddedPostgres(self._home.root)
            await postgres.start()
            stack.push_async_callback(postgres.stop)
            self._keep(stack, postgres)
            embedded.append(postgres)
            admin_url = postgres.url
            passwords = {spec.service: postgres.password_of(role_of(spec.service)) for spec in OWNERS}
            urls = {spec.service: postgres.url_of(role_of(spec.service)) for spec in OWNERS}
            notices = tuple(postgres.notices)
        redis_url = self._options.redis_url
        if redis_url is None:
            self._say("Starting Valkey ...")
            valkey = EmbeddedValkey(self._home.root)
            await valkey.start()
            stack.push_async_callback(valkey.stop)
            self._keep(stack, valkey)
            embedded.append(valkey)
            redis_url = valkey.url
        self._say("Preparing the database ...")
        await prepare_database(admin_url, passwords, urls)
        return _Servers(urls, redis_url, notices, tuple(embedded))

    @staticmethod
    def _keep(stack: AsyncExitStack, server: EmbeddedServer) -> None:
        keeper = asyncio.create_task(keep_running(server), name=f"keep {server.name}")
        stack.push_async_callback(cancel_and_wait, keeper)

    async def _first_accounts(self, servers: _Servers) -> Credentials:
        gateway = Database(servers.database_urls["gateway"], schema="gateway", pool_size=1)
        scheduler = Database(servers.database_urls["scheduler"], schema="scheduler", pool_size=1)
        try:
            options = self._options
            return await first_accounts(
                gateway, scheduler, self._home, options.origin_url, allow_loopback=options.allow_loopback
            )
        finally:
            await gateway.close()
            await scheduler.close()

    async def _local_target(self, servers: _Servers) -> UUID:
        builder = Database(servers.database_urls["builder"], schema="builder", pool_size=1)
        docker = self._options.runtime in {"auto", "docker"} and await engine_answers()
        kind = TargetKind.DOCKER if docker else TargetKind.PROCESS
        try:
            return await local_target(builder, self._home, self._options.endpoints_url, kind)
        finally:
            await builder.close()

    async def _start_services(
        self, stack: AsyncExitStack, settings: Mapping[str, Settings]
    ) -> Mapping[str, ChildProcess]:
        """Start them; gives the processes of those that have one of their own."""
        self._say("Starting the services ...")
        origins = [
            (replace(ORIGIN, name=name), ORIGIN.settings(**settings[name])) for name in ORIGINS if name in settings
        ]
        split = self._options.split
        entries = [] if split else [(SPECS[name], SPECS[name].settings(**settings[name])) for name in SPECS]
        await stack.enter_async_context(Supervisor([*entries, *origins]).running())
        programs = [
            Program(name, MODULES[name], environment_of(name, settings[name])) for name in (SPECS if split else ())
        ]
        # In both layouts a process of its own: no request waits for the platform's event loop.
        router = Program("router", "slipway_builder.router", environment_of("router", settings["router"]), ())
        return await stack.enter_async_context(running([*programs, router], self._home.logs))

    async def _list_processes(self, servers: Sequence[EmbeddedServer], children: Mapping[str, ChildProcess]) -> None:
        """Keep `<home>/processes.json` true: names and process ids, for operators and tests."""
        file = self._home.root / "processes.json"
        listed: dict[str, int | None] = {}
        while True:
            current = {
                "slipway": os.getpid(),
                **{server.name: server.pid for server in servers},
                **{name: child.pid for name, child in children.items()},
                "zygote": zygote_pid(self._home),
            }
            if current != listed:
                temporary = file.with_suffix(".new")
                temporary.write_text(json.dumps(current) + "\n")
                temporary.replace(file)
                listed = current
            await asyncio.sleep(0.2)

    async def _wait_ready(self, ports: Ports) -> None:
        waiting = {name: f"{ports.url(f'{name}.internal')}/readyz" for name in SPECS}
        waiting["router"] = f"{ports.url('router.health')}/readyz"
        last: dict[str, str] = {}
        try:
            async with asyncio.timeout(READY_SECONDS), outside_client(timeout=2) as client:
                while waiting:
                    for name, url in list(waiting.items()):
                        try:
                            answer = await client.get(url)
                        except OutsideError as error:
                            last[name] = str(error)
                            continue
                        if answer.status_code == 200:
                            del waiting[name]
                        else:
                            last[name] = answer.text
                    await asyncio.sleep(0.05)
        except TimeoutError:
            details = "\n".join(f"  {name}: {last.get(name, 'no answer')}" for name in waiting)
            raise PlatformError(
                f"Not ready after {READY_SECONDS:.0f} s:\n{details}\nLook into {self._home.logs}."
            ) from None


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock: two platforms on one home would fight over it."""
    with home.pid_file.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise PlatformError(
                f"A platform already runs on {home.root} (process {file.read().strip() or 'unknown'}). "
                "Stop it, or give another --home and --port."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
