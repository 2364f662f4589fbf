"""A worker's agent among its neighbours: in this process, or as one of its own that can be killed."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from slipway_kit.ids import new_id
from slipway_kit.service import Supervisor
from slipway_schemas.attempts import ResolvedFile, ResolvedInput
from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.neighbours.platform import PlatformNeighbours, platform_neighbours
from slipway_worker.settings import WorkerSettings
from slipway_worker.shim.client import ZygoteClient
from slipway_worker.spec import SPEC

RunWorker = Callable[..., Awaitable[Path]]
StoreInput = Callable[..., Awaitable[ResolvedInput]]


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[PlatformNeighbours]:
    async with platform_neighbours(tmp_path / "platform") as neighbours:
        yield neighbours
        assert neighbours.relay.problems == []


@pytest.fixture
async def run_worker(platform: PlatformNeighbours, tmp_path: Path) -> AsyncIterator[RunWorker]:
    """Runs a worker in this event loop; gives its home."""
    home = tmp_path / "worker" / "home"
    async with contextlib.AsyncExitStack() as stack:

        async def run(runtime: str = "process", **settings: object) -> Path:
            home.mkdir(parents=True)
            token_file = home.parent / "group-token"
            token_file.write_text(platform.scheduler.group_token)
            values = {"server_url": platform.api.url, "group_token_file": token_file, "home": home}
            stack.push_async_callback(ZygoteClient(home / "zygote.sock").exit)
            worker = WorkerSettings.model_validate({**values, "runtime": runtime, **settings})
            await stack.enter_async_context(Supervisor([(SPEC, worker)]).running())
            return home

        yield run


@pytest.fixture
async def agent_process(platform: PlatformNeighbours, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    """An agent of the process runtime that runs by itself and can be killed."""
    agent = AgentProcess(
        tmp_path / "worker" / "home", platform.api.url, platform.scheduler.group_token, "process", slots="2"
    )
    await agent.start()
    yield agent
    await agent.close()


@pytest.fixture
def store_input(platform: PlatformNeighbours) -> StoreInput:
    """Puts an input of one file into the store; `sha256` overrides what the gateway says of it."""

    async def put(name: str, content: bytes, *, sha256: str | None = None) -> ResolvedInput:
        datum = new_id()
        key = f"data/{datum}"
        await platform.gateway.store.put(key, content)
        file = ResolvedFile(
            name="numbers.csv",
            uri=f"datum://{datum}",
            url=await platform.gateway.url_of(key),
            datum_id=datum,
            size=len(content),
            sha256=sha256 or hashlib.sha256(content).hexdigest(),
            metadata=({"label": "a"},),
            cache_key=f"datum:{datum}",
        )
        return ResolvedInput(name=name, input_id=new_id(), download="always", files=(file,))

    return put
