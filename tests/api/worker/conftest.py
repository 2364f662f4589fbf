"""A worker's agent among its neighbours."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from slipway_testing.neighbours.agent_process import AgentProcess
from slipway_testing.neighbours.platform import PlatformNeighbours, platform_neighbours

StartAgent = Callable[..., Awaitable[AgentProcess]]


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[PlatformNeighbours]:
    async with platform_neighbours(tmp_path / "platform") as neighbours:
        yield neighbours
        assert neighbours.relay.problems == []


@pytest.fixture
async def start_agent(platform: PlatformNeighbours, tmp_path: Path) -> AsyncIterator[StartAgent]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(runtime: str = "process", **settings: str) -> AgentProcess:
            agent = AgentProcess(
                tmp_path / "worker" / "home", platform.api.url, platform.scheduler.group_token, runtime, **settings
            )
            stack.push_async_callback(agent.close)
            await agent.start()
            return agent

        yield start
