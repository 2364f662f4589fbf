"""What every deployment target does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol
from uuid import UUID

import pytest

from slipway_builder.targets.protocol import Address, EndpointRevision, Observation, ReplicaLine, Target
from slipway_kit.ids import new_id
from slipway_schemas.inference.statuses import Problem
from slipway_schemas.inference.versions import Bounds, EndpointResources, EndpointSpec, Scale

WORDS_SECONDS = 15.0
"""After this time at most, a replica that does not serve is explained."""

_HEARD_SECONDS = 5.0

OPTIONAL = "(optional)"
"""Mark in the name of a check whose failure leaves the target usable."""

SERVER = """
import http.server, json, os, sys, uuid
me = uuid.uuid4().hex
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen = {"replica": me, "path": self.path, "environment": dict(os.environ), "uid": os.getuid()}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("asked", me, self.path, flush=True)
    def log_message(self, *words):
        pass
print("serving", me, flush=True)
print("a line of stderr", me, file=sys.stderr, flush=True)
http.server.ThreadingHTTPServer(("", int(os.environ["VALOHAI_PORT"])), Handler).serve_forever()
"""
"""A server that says who answered, and with which variables."""

CRASHING = """
import sys, time
print("loading the model", flush=True)
time.sleep(0.3)
print("model.pkl is not there", file=sys.stderr, flush=True)
sys.exit(3)
"""
SILENT = """
import time
print("thinking about it", flush=True)
time.sleep(600)
"""
GREEDY = """
import time
print("filling the memory", flush=True)
kept = []
while True:
    kept.append(bytearray(8 * 1024 * 1024))
    time.sleep(0.005)
"""


class MakeRevision(Protocol):
    """Makes a revision that the target under test can run."""

    def __call__(self, program: str) -> EndpointRevision:
        """A new endpoint that runs this Python program."""
        ...


MakeTarget = Callable[[str], Awaitable[Target]]
"""A target of the installation of this name, on the cluster or host under test."""


def revision_of(program: str, *, image: str, command: tuple[str, ...] = ("python3", "-u", "-c")) -> EndpointRevision:
    """A revision of a new endpoint whose server is a Python program."""
    return EndpointRevision(
        endpoint_id=new_id(),
        generation=1,
        version_id=new_id(),
        deployment_id=new_id(),
        project_id=new_id(),
        owner="acme",
        project="digits",
        deployment="reader",
        version="20261121.0",
        image=image,
        command=(*command, program),
        spec=EndpointSpec(name="predict", image=image),
        scale=Scale(replicas=1),
        environment={"GREETING": "hello $(HOME) $$ 'you'"},
        secret_environment={"API_KEY": "s3cret $(HOME)"},
    )


def grown(revision: EndpointRevision, **changes: Any) -> EndpointRevision:
    """The next generation of a revision."""
    return replace(revision, generation=revision.generation + 1, **changes)


async def ask(address: Address, path: str = "/") -> dict[str, Any]:
    """What the server answers. Raises OSError while none does."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
    if not answer:
        raise ConnectionError("the connection was closed without an answer")
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


@dataclass
class Watch:
    """Waits for what a target says of one endpoint."""

    target: Target
    endpoint_id: UUID

    async def until(self, good: Callable[[Observation], bool], seconds: float) -> Observation:
        """The first observation that is good; fails with the last one after `seconds`."""
        end = time.monotonic() + seconds
        last: Observation | None = None
        while time.monotonic() < end:
            last = (await self.target.observe()).get(self.endpoint_id)
            if last is not None and good(last):
                return last
            await asyncio.sleep(0.25)
        pytest.fail(f"not seen within {seconds:.0f} s; the last observation: {last}")

    async def until_serving(self, generation: int, replicas: int, seconds: float) -> Address:
        """Where the endpoint is reached, once all replicas of a generation serve.

        A cluster's nodes hear of a new replica a moment after it is ready.
        """
        found = await self.until(
            lambda one: one.generation >= generation and one.ready == one.wanted == replicas, seconds
        )
        assert found.problem is None
        assert found.address is not None
        end = time.monotonic() + _HEARD_SECONDS
        while True:
            try:
                await ask(found.address)
            except OSError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
            else:
                return found.address

    async def until_gone(self, seconds: float) -> None:
        """Fails when the endpoint is still there after `seconds`."""
        end = time.monotonic() + seconds
        while self.endpoint_id in (found := await self.target.observe()):
            if time.monotonic() > end:
                pytest.fail(f"still there after {seconds:.0f} s: {found[self.endpoint_id]}")
            await asyncio.sleep(0.25)


class TargetConformance:
    """Subclass it with the fixtures `make_target` and `make_revision`; the class variables say what the kind can do."""

    ready_seconds: ClassVar[float] = 60.0
    gone_seconds: ClassVar[float] = 60.0
    has_replicas: ClassVar[bool] = True
    pulls_images: ClassVar[bool] = True
    limits_memory: ClassVar[bool] = True

    @pytest.fixture
    async def target(self, make_target: MakeTarget) -> AsyncIterator[Target]:
        """The target under test; what a test leaves on it is removed."""
        target = await make_target("conformance")
        yield target
        for endpoint in await target.observe():
            await target.remove(endpoint)
        await target.aclose()

    async def test_everything_needed_is_there(self, target: Target) -> None:
        """A working target passes its own checks, and each says its name."""
        checks = await target.check()
        assert [check for check in checks if not check.ok and OPTIONAL not in check.name] == []
        assert all(check.name for check in checks)

    async def test_an_endpoint_serves_until_it_is_removed(self, target: Target, make_revision: MakeRevision) -> None:
        """The whole path comes through with the right variables; applying again restarts nothing; nothing is left."""
        revision = make_revision(SERVER)
        watch = Watch(target, revision.endpoint_id)
        await target.apply(revision)
        address = await watch.until_serving(1, 1, self.ready_seconds)
        first = await ask(address, f"{revision.prefix}/items?x=1")
        assert first["path"] == f"{revision.prefix}/items?x=1"
        seen = first["environment"]
        assert seen["GREETING"] == "hello $(HOME) $$ 'you'"
        assert seen["API_KEY"] == "s3cret $(HOME)"
        assert seen["VH_DEFAULT_PREFIX"] == revision.prefix
        assert seen["VALOHAI_PORT"] == str(revision.spec.port) or not self.has_replicas
        assert "VH_JOB_ID" not in seen

        await target.apply(revision)
        await asyncio.sleep(1)
        again = await watch.until_serving(1, 1, self.ready_seconds)
        assert again == address
        assert (await ask(address))["replica"] == first["replica"]

        await target.remove(revision.endpoint_id)
        await watch.until_gone(self.gone_seconds)
        with pytest.raises((OSError, TimeoutError)):
            await ask(address)
        await target.remove(revision.endpoint_id)

    async def test_platform_variables_win(self, target: Target, make_revision: MakeRevision) -> None:
        """Nobody redirects the port, and no library is made to believe that it runs in an execution."""
        revision = make_revision(SERVER)
        foreign = {"VALOHAI_PORT": "1", "VH_DEFAULT_PREFIX": "/elsewhere", "VH_JOB_ID": "1"}
        await target.apply(replace(revision, environment=foreign, secret_environment=foreign))
        watch = Watch(target, revision.endpoint_id)
        seen = (await ask(await watch.until_serving(1, 1, self.ready_seconds)))["environment"]
        assert seen["VALOHAI_PORT"] != "1"
        assert seen["VH_DEFAULT_PREFIX"] == revision.prefix
        assert "VH_JOB_ID" not in seen

    async def test_replicas_come_and_go_and_the_first_serves_on(
        self, target: Target, make_revision: MakeRevision
    ) -> None:
        """A change of scale starts no replica again that stays."""
        revision = make_revision(SERVER)
        watch = Watch(target, revision.endpoint_id)
        await target.apply(revision)
        address = await watch.until_serving(1, 1, self.ready_seconds)
        if self.has_replicas:
            first = (await ask(address))["replica"]
            revision = grown(revision, scale=Scale(replicas=2))
            await target.apply(revision)
            await watch.until_serving(2, 2, self.ready_seconds)
            answered = await self._servers(address, 2)
            assert first in answered
        await target.apply(grown(revision, scale=Scale(replicas=0)))
        end = time.monotonic() + self.gone_seconds
        while (found := (await target.observe()).get(revision.endpoint_id)) is not None and found.ready:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        # A replica that is going away answers for a moment more.
        with pytest.raises((OSError, TimeoutError)):
            await _ask_until(address, end)

    async def test_a_new_secret_starts_replicas_again(self, target: Target, make_revision: MakeRevision) -> None:
        """A server reads its variables when it starts; where there can be two replicas, one always answers."""
        revision = make_revision(SERVER)
        watch = Watch(target, revision.endpoint_id)
        await target.apply(revision)
        address = await watch.until_serving(1, 1, self.ready_seconds)
        revision = grown(revision, secret_environment={"API_KEY": "another"})
        await target.apply(revision)
        if not self.has_replicas:
            address = await watch.until_serving(2, 1, self.ready_seconds)
        end = time.monotonic() + self.ready_seconds
        while (await ask(address))["environment"]["API_KEY"] != "another":
            assert time.monotonic() < end
            await asyncio.sleep(0.1)

    async def test_a_crash_is_explained(self, target: Target, make_revision: MakeRevision) -> None:
        """With the exit code and what the server said last."""
        revision = make_revision(CRASHING)
        await target.apply(revision)
        watch = Watch(target, revision.endpoint_id)
        found = await watch.until(lambda one: "exit code 3" in one.detail, WORDS_SECONDS)
        assert found.problem is Problem.CRASH_LOOP
        assert found.ready == 0
        assert "model.pkl is not there" in "\n".join(found.last_lines)

    async def test_an_image_that_cannot_be_had_is_named(self, target: Target, make_revision: MakeRevision) -> None:
        """The words name the image."""
        if not self.pulls_images:
            pytest.skip("this kind of target pulls no images")
        image = "127.0.0.1:9/nobody/nothing:1"
        revision = replace(make_revision(SERVER), image=image)
        await target.apply(revision)
        found = await Watch(target, revision.endpoint_id).until(lambda one: one.problem is not None, WORDS_SECONDS)
        assert found.problem is Problem.IMAGE_PULL
        assert image in found.detail

    async def test_a_server_that_never_listens_is_explained(self, target: Target, make_revision: MakeRevision) -> None:
        """With its port and what it says meanwhile."""
        revision = make_revision(SILENT)
        await target.apply(revision)
        found = await Watch(target, revision.endpoint_id).until(lambda one: bool(one.last_lines), WORDS_SECONDS)
        assert found.problem is Problem.PROBE_FAILING
        assert "8000" in found.detail or not self.has_replicas
        assert "thinking about it" in "\n".join(found.last_lines)

    async def test_a_server_that_needs_too_much_memory_is_explained(
        self, target: Target, make_revision: MakeRevision
    ) -> None:
        """With the limit."""
        if not self.limits_memory:
            pytest.skip("this kind of target limits no memory")
        revision = make_revision(GREEDY)
        resources = EndpointResources(memory_bytes=Bounds(max=64_000_000))
        revision = replace(revision, spec=revision.spec.model_copy(update={"resources": resources}))
        await target.apply(revision)
        found = await Watch(target, revision.endpoint_id).until(lambda one: one.problem is not None, WORDS_SECONDS)
        assert found.problem is Problem.OUT_OF_MEMORY
        assert "64 MB" in found.detail

    async def test_what_nobody_remembers_is_seen(
        self, target: Target, make_target: MakeTarget, make_revision: MakeRevision
    ) -> None:
        """A new process sees the endpoints of its installation and can remove them; another installation sees none."""
        revision = make_revision(SERVER)
        await target.apply(revision)
        await Watch(target, revision.endpoint_id).until_serving(1, 1, self.ready_seconds)
        stranger = await make_target("another")
        try:
            assert revision.endpoint_id not in await stranger.observe()
        finally:
            await stranger.aclose()
        successor = await make_target("conformance")
        try:
            watch = Watch(successor, revision.endpoint_id)
            address = await watch.until_serving(1, 1, self.ready_seconds)
            assert (await ask(address))["path"] == "/"
            await successor.remove(revision.endpoint_id)
            await watch.until_gone(self.gone_seconds)
        finally:
            await successor.aclose()

    async def test_lines_of_all_replicas_arrive(self, target: Target, make_revision: MakeRevision) -> None:
        """Old lines and new ones of every replica, and only new ones of those whose old ones are known."""
        begun = datetime.now(UTC) - timedelta(seconds=5)
        count = 2 if self.has_replicas else 1
        revision = replace(make_revision(SERVER), scale=Scale(replicas=count))
        await target.apply(revision)
        address = await Watch(target, revision.endpoint_id).until_serving(1, count, self.ready_seconds)
        servers: dict[str, str] = {}
        lines = target.logs(revision.endpoint_id, since=begun)
        async with aclosing(lines) as reading:
            line = await _next(reading, lambda one: one.text.startswith(b"serving "))
            servers[line.replica] = line.text.split()[1].decode()
            while len(servers) < count:
                line = await _next(reading, lambda one: one.text.startswith(b"serving "))
                servers[line.replica] = line.text.split()[1].decode()
                assert line.at >= begun
            assert await self._servers(address, count) == set(servers.values())
            heard: set[str] = set()
            while heard != set(servers):
                heard.add((await _next(reading, lambda one: one.text.startswith(b"asked "))).replica)
        skipped = next(iter(servers))
        rest = set(servers) - {skipped}
        if rest:
            lines = target.logs(
                revision.endpoint_id, since=begun, known={skipped: datetime.now(UTC) + timedelta(hours=1)}
            )
            async with aclosing(lines) as reading:
                assert {(await _next(reading, lambda one: True)).replica for _ in range(3)} == rest

    async def _servers(self, address: Address, count: int) -> set[str]:
        """Ask until this many replicas have answered."""
        found: set[str] = set()
        end = time.monotonic() + _HEARD_SECONDS
        while len(found) < count and time.monotonic() < end:
            found.add((await ask(address))["replica"])
        assert len(found) == count
        return found


async def _ask_until(address: Address, end: float) -> None:
    """Ask again and again; raises OSError as soon as nobody answers."""
    while time.monotonic() < end:
        await ask(address)
        await asyncio.sleep(0.1)


async def _next(reading: AsyncIterator[ReplicaLine], good: Callable[[ReplicaLine], bool]) -> ReplicaLine:
    async with asyncio.timeout(20):
        async for line in reading:
            if good(line):
                return line
    raise AssertionError("the log ended")
