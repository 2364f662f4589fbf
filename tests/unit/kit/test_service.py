import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from slipway_kit.app import create_app
from slipway_kit.auth import (
    AttemptSigner,
    AttemptVerifier,
    ServiceIdentity,
    ServiceSigner,
    ServiceVerifier,
    new_secret_token,
    require_service,
    token_hash,
)
from slipway_kit.errors import Conflict, ErrorStyle, Forbidden, Unauthorized, Unavailable
from slipway_kit.http import Neighbour
from slipway_kit.keys import generate_keypair, load_private, load_trusted
from slipway_kit.servers import make_server
from slipway_kit.service import Apps, BackgroundTask, BindError, ReadyCheck, ServiceSpec, Supervisor
from slipway_kit.settings import HttpSettings, ServiceSettings, SettingsError, service_config
from slipway_kit.unit_of_work import transaction_open
from slipway_schemas.tokens import AttemptClaims

pytestmark = pytest.mark.sockets  # services answer each other on loopback

CALLER = Ed25519PrivateKey.generate()


class Settings(ServiceSettings):
    model_config = service_config("probe")


class Answer(BaseModel):
    service: str
    actor: int | None


@dataclass
class Context:
    registry: CollectorRegistry
    failures: int = 0
    ready: bool = True
    closed: bool = False


@contextlib.asynccontextmanager
async def open_context(_: Settings) -> AsyncIterator[Context]:
    context = Context(CollectorRegistry())
    try:
        yield context
    finally:
        context.closed = True


def internal_app() -> FastAPI:
    app = create_app("internal", style=ErrorStyle.PROBLEM)
    verifier = ServiceVerifier("probe", {"caller": CALLER.public_key()})
    caller = Depends(require_service(verifier, "caller"))

    @app.post("/internal/v1/whoami")
    async def whoami(identity: ServiceIdentity = caller) -> Answer:
        return Answer(service=identity.service, actor=identity.actor)

    @app.get("/internal/v1/conflict")
    async def conflict() -> None:
        raise Conflict("Taken.", code="taken", details={"by": "someone"})

    @app.get("/internal/v1/slow")
    async def slow() -> None:
        await asyncio.sleep(0.5)

    @app.get("/internal/v1/events")
    async def events() -> StreamingResponse:
        async def forever() -> AsyncIterator[bytes]:
            yield b"data: hello\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(forever(), media_type="text/event-stream")

    return app


def spec(name: str = "probe") -> ServiceSpec[Settings, Context]:
    def background(context: Context) -> list[BackgroundTask]:
        async def fail_once() -> None:
            context.failures += 1
            if context.failures == 1:
                raise OSError("first time")
            await asyncio.Event().wait()

        return [BackgroundTask("fail_once", fail_once)]

    def ready(context: Context) -> list[ReadyCheck]:
        async def check() -> None:
            if not context.ready:
                raise Unavailable("The database is away.")

        return [ReadyCheck("database", check)]

    return ServiceSpec(
        name=name,
        settings=Settings,
        context=open_context,
        apps=lambda _: Apps(public=create_app("public", style=ErrorStyle.V0), internal=internal_app()),
        background=background,
        ready=ready,
        metrics=lambda context: context.registry,
    )


def settings() -> Settings:
    return Settings(http=HttpSettings(internal_port=0, public_port=0))


def neighbour(supervisor: Supervisor) -> Neighbour:
    port = supervisor.ports["probe"]["internal"]
    return Neighbour(f"http://127.0.0.1:{port}", ServiceSigner("caller", CALLER), "probe")


async def test_several_services_in_one_loop_and_a_clean_stop() -> None:
    supervisor = Supervisor([(spec("probe"), settings()), (spec("other"), settings())])
    async with supervisor.running():
        assert len({port for ports in supervisor.ports.values() for port in ports.values()}) == 4
        base = f"http://127.0.0.1:{supervisor.ports['other']['internal']}"
        context = supervisor.contexts["other"]
        async with aiohttp.ClientSession() as session:
            async with session.get(base + "/healthz") as answer:
                assert answer.status == 200
            async with session.get(base + "/readyz") as answer:
                assert (answer.status, (await answer.json())["ready"]) == (200, True)
            context.ready = False
            async with session.get(base + "/readyz") as answer:
                assert answer.status == 503
                assert (await answer.json())["checks"] == {"database": "The database is away."}
            async with asyncio.timeout(5):
                while context.failures < 2:
                    await asyncio.sleep(0.02)
            async with session.get(base + "/metrics") as answer:
                assert 'slipway_other_background_failures_total{task="fail_once"} 1.0' in await answer.text()
    assert context.closed
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", supervisor.ports["other"]["internal"])


async def test_sigterm_stops_run() -> None:
    supervisor = Supervisor([(spec(), settings())])
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(10):
        while "public" not in supervisor.ports.get("probe", {}):
            await asyncio.sleep(0.02)
        signal.raise_signal(signal.SIGTERM)
        await running
    assert supervisor.contexts["probe"].closed


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor([(spec(), Settings(http=HttpSettings(internal_port=0, public_port=port)))])
        with pytest.raises(BindError, match=str(port)):
            async with supervisor.running():
                pass
    assert supervisor.contexts["probe"].closed


async def test_an_open_event_stream_does_not_hold_up_the_stop() -> None:
    started_at = time.monotonic()
    supervisor = Supervisor([(spec(), settings())])
    async with supervisor.running():
        session = aiohttp.ClientSession()
        base = f"http://127.0.0.1:{supervisor.ports['probe']['internal']}"
        answer = await session.get(base + "/internal/v1/events")
        assert await answer.content.readany() == b"data: hello\n\n"
    assert await answer.content.read() == b""
    await session.close()
    assert time.monotonic() - started_at < 5


async def test_neighbour_carries_identity_and_brings_errors_back() -> None:
    supervisor = Supervisor([(spec(), settings())])
    async with supervisor.running(), neighbour(supervisor) as caller:
        answer = await caller.post("/internal/v1/whoami", result=Answer, actor=7)
        assert answer == Answer(service="caller", actor=7)
        with pytest.raises(Conflict, match="Taken") as caught:
            await caller.get("/internal/v1/conflict")
        assert (caught.value.code, caught.value.details) == ("taken", {"by": "someone"})
        with pytest.raises(Unavailable, match="in time"):
            await caller.get("/internal/v1/slow", timeout=0.05)
        token = transaction_open.set(True)
        with pytest.raises(RuntimeError, match="transaction"):
            await caller.get("/internal/v1/slow")
        transaction_open.reset(token)
        async with caller.stream("GET", "/metrics") as streamed:
            content = b"".join([part async for part in streamed.content])
        assert b"slipway_probe_" in content


async def test_a_neighbour_that_is_away_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Neighbour(f"http://127.0.0.1:{port}", ServiceSigner("caller", CALLER), "probe") as caller:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await caller.post("/internal/v1/whoami", timeout=0.3)


async def test_a_server_keeps_idle_connections_longer_than_the_clients_do() -> None:
    # Else a POST is now and then sent on a connection that the server closes at that moment, and fails.
    serving = make_server(internal_app(), drain_seconds=1).config.timeout_keep_alive
    async with Neighbour("http://127.0.0.1:1", ServiceSigner("caller", CALLER), "probe") as caller:
        connector = caller._open().connector
        assert connector is not None
        assert serving > connector._keepalive_timeout


async def test_a_refused_post_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    supervisor = Supervisor([(spec(), Settings(http=HttpSettings(internal_port=port)))])
    async with Neighbour(f"http://127.0.0.1:{port}", ServiceSigner("caller", CALLER), "probe") as caller:
        call = asyncio.create_task(caller.post("/internal/v1/whoami", result=Answer))
        await asyncio.sleep(0.1)
        async with supervisor.running():
            assert (await call).service == "caller"


def test_service_tokens_prove_signer_and_audience() -> None:
    other = Ed25519PrivateKey.generate()
    verifier = ServiceVerifier("probe", {"caller": CALLER.public_key(), "other": other.public_key()})
    signer = ServiceSigner("other", other)
    assert signer.token("probe") == signer.token("probe")
    assert verifier.verify(signer.token("probe")).service == "other"
    for forged in (
        ServiceSigner("caller", other).token("probe"),
        ServiceSigner("caller", CALLER).token("elsewhere"),
        ServiceSigner("caller", Ed25519PrivateKey.generate()).token("probe"),
        "nonsense",
    ):
        with pytest.raises(Unauthorized):
            verifier.verify(forged)
    assert Forbidden.kind.value == "forbidden"


def test_attempt_tokens_are_not_service_tokens() -> None:
    claims = AttemptClaims(attempt_id=uuid4(), execution_id=uuid4(), environment_id=uuid4(), number=2)
    verifier = AttemptVerifier(CALLER.public_key())
    token = AttemptSigner(CALLER).sign(claims)
    assert verifier.verify(token) == claims
    assert verifier.verify(token) == claims
    for wrong in (
        ServiceSigner("caller", CALLER).token("probe"),
        AttemptSigner(Ed25519PrivateKey.generate()).sign(claims),
    ):
        with pytest.raises(Unauthorized):
            verifier.verify(wrong)
    with pytest.raises(Unauthorized):
        ServiceVerifier("probe", {"caller": CALLER.public_key()}).verify(token)


def test_secret_tokens_are_stored_as_keyed_hashes() -> None:
    token = new_secret_token()
    assert len(token) >= 43
    assert token_hash(token, "a") != token_hash(token, "b")


def test_key_files(tmp_path: Path) -> None:
    generate_keypair(tmp_path / "own.pem", tmp_path / "trusted" / "probe.pub.pem")
    assert (tmp_path / "own.pem").stat().st_mode & 0o777 == 0o600
    trusted = load_trusted(tmp_path / "trusted")
    assert trusted == {"probe": load_private(tmp_path / "own.pem").public_key()}
    with pytest.raises(FileExistsError):
        generate_keypair(tmp_path / "own.pem", tmp_path / "more.pub.pem")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_PROBE__HTTP__INTERNAL_PORT", "81")
    monkeypatch.setenv("SLIPWAY_PROBE__LOG__JSON", "false")
    loaded = Settings.load()
    assert (loaded.http.internal_port, loaded.log.json_lines) == (81, False)
    monkeypatch.setenv("SLIPWAY_PROBE__HTTP__INTERNAL_PORT", "many")
    monkeypatch.setenv("SLIPWAY_PROBE__HTPP__HOST", "x")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert "SLIPWAY_PROBE__HTTP__INTERNAL_PORT: A valid integer" in str(caught.value)
    assert "SLIPWAY_PROBE__HTPP__HOST" in str(caught.value)
