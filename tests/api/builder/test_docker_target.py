"""From a version's draft to an answer, on a host with a Docker engine and without a registry."""

import asyncio

import pytest

from slipway_schemas.inference.statuses import TargetKind
from tests.api.builder.harness import Start

pytestmark = pytest.mark.docker


async def test_a_version_is_built_by_the_engine_and_serves(start: Start) -> None:
    async with start(kind=TargetKind.DOCKER) as builder:
        deployment = await builder.deployment()
        version = await builder.version(
            deployment, model=b"petals", environment_variables={"MY_PLAIN": {"value": "plain"}}
        )
        await builder.until(version["id"], "AVAILABLE", 60)
        prefix = f"/acme/iris/main/{version['name']}/greet"
        answer = await builder.ask(prefix)
        assert (answer["path"], answer["model"]) == (f"{prefix}/predict", "petals")
        assert answer["environment"]["VALOHAI_PORT"] == "8000"
        assert answer["environment"]["MY_PLAIN"] == "plain"
        assert set(answer["metadata"]) == {"deployment", "endpoint", "meta", "project", "version"}
        second = await builder.version(deployment, model=b"sepals")
        await builder.until(second["id"], "AVAILABLE", 60)
        assert (await builder.ask(f"/acme/iris/main/{second['name']}/greet"))["model"] == "sepals"
        assert (await builder.ask(prefix))["model"] == "petals", "both are live"
        await builder.call("DELETE", f"deployments/{deployment}")
        target = builder.context.factory.pool
        async with builder.context.db.read() as session:
            record = await builder.context.factory.targets(session).get(builder.target_id)
        for _ in range(300):
            if not await target.open(record).observe():
                break
        assert await target.open(record).observe() == {}


async def test_images_that_are_not_there_and_servers_that_end_say_so(start: Start) -> None:
    async with start(kind=TargetKind.DOCKER) as builder:
        deployment = await builder.deployment()
        missing = await builder.version(deployment, image="127.0.0.1:9/no/such:1")
        row = await builder.until(missing["id"], "BUILD_FAILED")
        assert "127.0.0.1:9/no/such:1" in row["status_detail"]
        crashing = await builder.version(deployment, command="echo cannot load the model; exit 3")
        async with asyncio.timeout(60):
            while "exit code 3" not in (row := await builder.endpoint(crashing["id"]))["status_detail"]:
                await asyncio.sleep(0.1)
        assert (row["status"], row["problem"]) == ("UNAVAILABLE", "crash_loop")
        assert "cannot load the model" in row["status_detail"]
        await builder.call("DELETE", f"deployments/{deployment}")
        async with builder.context.db.read() as session:
            record = await builder.context.factory.targets(session).get(builder.target_id)
        for _ in range(300):
            if not await builder.context.factory.pool.open(record).observe():
                return
        raise AssertionError("the container is still there")
