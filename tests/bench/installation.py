"""A platform as an operator runs it, with a durable Postgres that the peers use too, and a client of its API."""

import asyncio
import gzip
import hashlib
import io
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp

from slipway_allinone.embedded import EmbeddedPostgres
from slipway_allinone.home import Home
from slipway_allinone.provision import Credentials
from slipway_testing.ports import unused_port

SLIPWAY = Path(sys.executable).with_name("slipway")
IMAGE = os.environ.get("SLIPWAY_TEST_IMAGE", "slipway-test/python:bookworm")
FINAL = frozenset({"complete", "error", "crashed", "stopped"})
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05

Json = dict[str, Any]


@dataclass
class UpProcess:
    """`slipway up` as a child process."""

    home: Path
    port: int
    process: asyncio.subprocess.Process
    ready_seconds: float

    @property
    def credentials(self) -> Credentials:
        """How to log in."""
        found = Credentials.load(Home(self.home))
        if found is None:
            raise RuntimeError("the platform has written no credentials")
        return found

    async def stop(self) -> None:
        """End the platform as Ctrl-C does."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start_up(home: Path, *arguments: str) -> UpProcess:
    """Start the platform on this home and wait for its ready line. Raises RuntimeError with what it printed."""
    port = unused_port()
    began = time.perf_counter()
    with (home.parent / f"{home.name}.out").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(str(SLIPWAY), "up", "--home", str(home), "--port", str(port)),
            *("--inference-port", str(unused_port()), "--stop-runs", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")},
        )
    if process.stdout is None:
        raise RuntimeError("the platform has no output to read")
    async with asyncio.timeout(_READY_SECONDS):
        first = await process.stdout.readline()
    if b"ready" not in first:
        await process.wait()
        printed = (home.parent / f"{home.name}.out").read_text(errors="replace")
        raise RuntimeError(f"slipway up did not get ready:\n{printed[-4000:]}")
    return UpProcess(home, port, process, time.perf_counter() - began)


@asynccontextmanager
async def scratch_home() -> AsyncIterator[Path]:
    """A folder for a home; what the platform has put there and elsewhere for it is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        home = Path(folder) / "home"
        try:
            yield home
        finally:
            if (home / "keys").exists():
                reset = await asyncio.create_subprocess_exec(
                    *(str(SLIPWAY), "reset", "--yes", "--home", str(home)), stdout=asyncio.subprocess.DEVNULL
                )
                await reset.wait()


class Client:
    """The compatible API, as one user with many connections."""

    def __init__(self, session: aiohttp.ClientSession, database_url: str | None) -> None:
        self._session = session
        self.database_url = database_url

    async def call(self, method: str, path: str, expected: int, **options: Any) -> Any:
        """JSON of a call. Raises RuntimeError for any other status."""
        async with self._session.request(method, path, **options) as answer:
            if answer.status != expected:
                raise RuntimeError(f"{method} {path} was answered {answer.status}: {await answer.text()}")
            return await answer.json()

    async def prepare(self, name: str, steps: Mapping[str, str]) -> "Workbench":
        """A project with a package whose steps run these commands."""
        yaml = "".join(
            f"- step:\n    name: {step}\n    image: {IMAGE}\n    command: |\n      {command}\n"
            for step, command in steps.items()
        )
        return await self.with_code(name, {"valohai.yaml": yaml})

    async def with_code(self, name: str, files: Mapping[str, str]) -> "Workbench":
        """A project with a package of these files."""
        project = await self.call("POST", "/api/v0/projects/", 201, json={"name": name})
        form = aiohttp.FormData()
        form.add_field("data", _package(files), filename="data.tgz", content_type="application/gzip")
        commit = await self.call("POST", f"/api/v0/projects/{project['id']}/import-package/", 201, data=form)
        return Workbench(self, project["id"], commit["identifier"])

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a GET as it comes."""
        async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=600)) as answer:
            answer.raise_for_status()
            yield answer.content


@dataclass(frozen=True)
class Workbench:
    """A project to run steps in."""

    client: Client
    project: str
    commit: str

    async def run(self, step: str) -> Json:
        """Create an execution."""
        body = {"project": self.project, "commit": self.commit, "step": step}
        created: Json = await self.client.call("POST", "/api/v0/executions/", 201, json=body)
        return created

    async def wait(self, execution: Json, timeout: float = 300.0) -> Json:
        """Wait until the execution is final, which must be with success."""
        async with asyncio.timeout(timeout):
            while True:
                found: Json = await self.client.call("GET", f"/api/v0/executions/{execution['id']}/", 200)
                if found["status"] in FINAL:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        if found["status"] != "complete":
            raise RuntimeError(f"the execution ended as {found['status']}: {found['status_detail']}")
        return found

    async def unfinished(self) -> int:
        """How many executions are not final."""
        path = f"/api/v0/executions/?project={self.project}&status=incomplete&limit=1"
        return int((await self.client.call("GET", path, 200))["count"])

    async def with_status(self, status: str) -> int:
        """How many executions have this status."""
        path = f"/api/v0/executions/?project={self.project}&status={status}&limit=1"
        return int((await self.client.call("GET", path, 200))["count"])

    async def first_number(self, execution: Json) -> int:
        """The first line of the log, which is a number: the time when the command began."""
        log = await self.client.call("GET", f"/api/v0/executions/{execution['id']}/events/?limit=0", 200)
        return next(int(one["message"]) for one in log["events"] if one["message"].strip().isdigit())


class Installation:
    """A platform with a Postgres beside it that peers may use as well."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._home = home
        self._arguments = arguments
        self._postgres = EmbeddedPostgres(home.with_name("database"))
        self._up: UpProcess | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        await self._postgres.start()
        self._up = await start_up(self._home, "--database-url", self._postgres.url, *self._arguments)
        credentials = self._up.credentials
        self._session = aiohttp.ClientSession(
            credentials.url,
            headers={"Authorization": f"Token {credentials.token}"},
            connector=aiohttp.TCPConnector(limit=0),
        )
        self.client = Client(self._session, self._postgres.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        if self._up is not None:
            await self._up.stop()
        await self._postgres.destroy()


@asynccontextmanager
async def installation(*arguments: str) -> AsyncIterator[Client]:
    """A running platform, gone afterwards."""
    async with scratch_home() as home:
        home.mkdir()
        async with Installation(home, *arguments) as platform:
            yield platform.client


def _package(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


def sha256_of_numbers(count: int) -> str:
    """SHA-256 of what `numbers_command` prints."""
    digest = hashlib.sha256()
    for first in range(1, count + 1, 10_000):
        digest.update(b"".join(b"%099d\n" % number for number in range(first, min(first + 10_000, count + 1))))
    return digest.hexdigest()


def numbers_command(count: int) -> str:
    """A shell command that prints numbered lines of 100 bytes as fast as it can."""
    return f"seq -f %099.0f 1 {count}"
