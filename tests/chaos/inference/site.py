"""An installation of builders, routers and one target, with a wire on every way out of a builder."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text

from slipway_builder.context import BuilderContext
from slipway_builder.targets.service import TargetService
from slipway_db import Database
from slipway_kit.auth import ServiceSigner
from slipway_kit.key_ring import KeyRing
from slipway_kit.keys import generate_keypair, load_private
from slipway_kit.vault import Vault
from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import AliasMove, TargetDraft
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.ports import unused_port
from slipway_testing.roles import service_url
from slipway_testing.router_process import RouterProcess
from tests.api.builder.harness import ROUTER_TOKEN, SERVER, RunningBuilder, SmallGateway
from tests.chaos.inference.builders import BuilderProcess
from tests.chaos.inference.tripwire import Proxy, Tripwire, proxied_socket

LEASE_SECONDS = 2.0
ALIAS = "production"
_START_SECONDS = 120.0
_ENGINE = Path("/var/run/docker.sock")


@dataclass
class Site:
    """What a test sees of it."""

    home: Path
    installation: str
    gateway: SmallGateway
    target_id: UUID
    token: str
    db: Database
    builders: list[BuilderProcess]
    wires: list[Tripwire]
    routers: list[RouterProcess]
    project_id: UUID = field(default_factory=uuid4)
    image: str = "slipway-test/python:bookworm"
    deployment_id: UUID = field(default_factory=uuid4)
    moves: list[str] = field(default_factory=list)
    """Versions where the alias has stood, in order."""

    @asynccontextmanager
    async def speaker(self, number: int = 0) -> AsyncIterator[RunningBuilder]:
        """Speaks to one of the builders."""
        context = cast(BuilderContext, SimpleNamespace(db=self.db))
        async with httpx.AsyncClient(base_url=self.builders[number].url, timeout=30) as http:
            yield RunningBuilder(http, context, self.gateway, self.target_id, self.token, self.project_id)

    async def deploy(self, number: int = 0) -> None:
        """Make the deployment; open, so that no key is needed."""
        async with self.speaker(number) as speaker:
            self.deployment_id = await speaker.deployment(public=True)

    async def version(self, words: bytes, *, alias: bool = True, number: int = 0) -> dict[str, Any]:
        """A new version, which gets the alias once it serves."""
        async with self.speaker(number) as speaker:
            made = await speaker.version(
                self.deployment_id, model=words, image=self.image, aliases=[ALIAS] if alias else []
            )
        if alias:
            self.moves.append(made["id"])
        return made

    async def move(self, version_id: str, number: int = 0) -> dict[str, Any]:
        """Move the alias."""
        path = f"deployments/{self.deployment_id}/aliases/{ALIAS}"
        async with self.speaker(number) as speaker:
            moved: dict[str, Any] = await speaker.call("PUT", path, AliasMove(version_id=UUID(version_id)))
        return moved

    async def until_available(self, version: Mapping[str, Any], seconds: float = 120) -> None:
        """Wait until a version serves."""
        async with self.speaker() as speaker:
            await speaker.until(version["id"], "AVAILABLE", seconds)

    async def until_aliased(self, version: Mapping[str, Any]) -> None:
        """Wait until a version has the alias that it was made with."""
        await self.until_rows("SELECT 1 FROM aliases WHERE version_id = :id", id=UUID(version["id"]))

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        """What the database has."""
        async with self.db.read() as session:
            return list((await session.execute(text(statement), values)).all())

    async def until_rows(self, statement: str, seconds: float = 90, **values: Any) -> list[Any]:
        """Wait until the statement finds something."""
        async with asyncio.timeout(seconds):
            while not (found := await self.rows(statement, **values)):
                await asyncio.sleep(0.01)
        return found

    async def asked(self, name: str, router: int = 0) -> tuple[int, str]:
        """What a router answers below a version's name or an alias: the status, and the version that served."""
        answer = await self.routers[router].get(f"/acme/iris/main/{name}/greet/predict")
        return answer.status, answer.header("x-slipway-version") or ""


@asynccontextmanager
async def running_site(
    database_url: str,
    valkey_url: str,
    home: Path,
    kind: TargetKind,
    *,
    target: TargetDraft | None = None,
    builders: int = 1,
    wire: Tripwire | None = None,
) -> AsyncIterator[Site]:
    """Start everything; `target` is an administrator's own, else that of one machine is taken.

    `wire` is the first builder's, where something else of it is proxied too.
    """
    home.mkdir(parents=True, exist_ok=True)
    gateway = SmallGateway()
    gateway.add_commit("c0ffee", {"server.py": SERVER, **{f"module_{n}.py": os.urandom(900).hex() for n in range(40)}})
    trusted = home / "trusted"
    (home / "secret").write_bytes(os.urandom(32))
    for name in ("builder", "gateway"):
        generate_keypair(home / f"{name}.pem", trusted / f"{name}.pub.pem")
    installation = uuid4().hex[:16]
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(ServedApp(gateway.app()))
        gateway.origin = served.url
        db = Database(service_url(database_url, "builder"), schema="builder", pool_size=4)
        stack.push_async_callback(db.close)
        token = ServiceSigner("gateway", load_private(home / "gateway.pem")).token("builder")
        target_id, router_token = await _target(db, home, kind, target)
        site = Site(home, installation, gateway, target_id, token, db, [], [], [])
        for number in range(builders):
            own = wire if number == 0 and wire is not None else Tripwire()
            await _add_builder(stack, site, number, database_url, valkey_url, served.url, own)
        for one in site.builders:
            stack.push_async_callback(one.end)
            await one.start()
        for number, one in enumerate(site.builders):
            folder = home / f"router-{number}"
            folder.mkdir()
            neighbour = cast(Any, SimpleNamespace(token=router_token, target_id=target_id))
            router = RouterProcess(neighbour, one.url, folder, "relay")
            stack.push_async_callback(router.stop)
            await router.start()
            await router.until_ready(_START_SECONDS)
            site.routers.append(router)
        yield site


async def _target(db: Database, home: Path, kind: TargetKind, draft: TargetDraft | None) -> tuple[UUID, str]:
    vault = Vault(KeyRing(home / "secret"))
    async with db.transaction() as session:
        targets = TargetService(session, vault)
        if draft is None:
            return await targets.ensure("local", kind, "http://127.0.0.1:8001", ROUTER_TOKEN), ROUTER_TOKEN
        made = await targets.create(draft)
        return made.id, made.router_token


async def _add_builder(
    stack: AsyncExitStack,
    site: Site,
    number: int,
    database_url: str,
    valkey_url: str,
    gateway_url: str,
    wire: Tripwire,
) -> None:
    home = site.home
    upstream = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway_url, timeout=30))
    proxy = await stack.enter_async_context(ServedApp(_WithOrigin(Proxy("gateway", upstream, wire), gateway_url)))
    docker: dict[str, Any] = {
        "installation": site.installation,
        "network": os.environ.get("SLIPWAY_TEST_DOCKER_NETWORK", ""),
        "ends_with_builder": True,
    }
    if _ENGINE.exists():
        docker["socket"] = str(
            await stack.enter_async_context(proxied_socket(home / f"engine-{number}.sock", _ENGINE, "engine", wire))
        )
    site.wires.append(wire)
    builder = BuilderProcess(
        f"builder-{number}",
        {
            "database": {"url": service_url(database_url, "builder"), "pool_size": 6},
            "redis": {"url": valkey_url},
            "keys": {"private_key_file": str(home / "builder.pem"), "trusted_keys_dir": str(home / "trusted")},
            "neighbours": {"gateway": proxy.url},
            "secret_key_file": str(home / "secret"),
            "work_dir": str(home / "work"),
            "lease_seconds": LEASE_SECONDS,
            "upkeep": {"left_overs_seconds": 1, "clean_up_seconds": 3600},
            "docker": docker,
            "process": {"home": str(home / "serving"), "ends_with_builder": True},
            "log": {"level": "INFO", "json": False},
        },
        unused_port(),
        home / f"builder-{number}.log",
    )
    site.builders.append(builder)
    wire.strike = builder.kill


class _WithOrigin:
    """Lets the URLs of materials lead through the same proxy."""

    def __init__(self, proxy: Proxy, origin: str) -> None:
        self._proxy = proxy
        self._origin = origin.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if not scope["path"].endswith("/materials"):
            await self._proxy(scope, receive, send)
            return
        messages: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            messages.append(message)

        await self._proxy(scope, receive, keep)
        body = b"".join(one.get("body", b"") for one in messages[1:]).replace(self._origin, b"http://" + host)
        start = messages[0]
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})
