"""From a version's draft to an answer, on the process target."""

import asyncio
import os
import signal
from uuid import UUID

import psutil

from slipway_builder.targets.process.replicas import ReplicaState
from tests.api.builder.harness import RunningBuilder, Start


async def test_a_version_is_built_and_serves_under_its_urls(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        builder.gateway.secrets["MY_SECRET"] = "hush"
        version = await builder.version(
            deployment,
            model=b"petals",
            environment_variables={
                "MY_PLAIN": {"value": "plain"},
                "MY_SECRET": {
                    "secret": {"scope": "project", "scope_id": str(builder.project_id), "name": "s", "version": 1}
                },
                "VALOHAI_PORT": {"value": "1"},
            },
            aliases=("production",),
        )
        row = await builder.until(version["id"], "AVAILABLE")
        assert row["status_detail"] == "100% - Available"
        prefix = f"/acme/iris/main/{version['name']}/greet"
        answer = await builder.ask(prefix)
        assert answer["path"] == f"{prefix}/predict"
        assert answer["model"] == "petals"
        environment = answer["environment"]
        assert environment["VH_DEFAULT_PREFIX"] == prefix
        assert environment["VALOHAI_PORT"] == str(row["address_port"])
        assert (environment["MY_PLAIN"], environment["MY_SECRET"]) == ("plain", "hush")
        metadata = answer["metadata"]
        assert set(metadata) == {"deployment", "endpoint", "meta", "project", "version"}
        assert metadata["version"]["endpoints"][0]["files"][0]["datum"]["name"] == "model-7.txt"
        async with asyncio.timeout(5):
            while "/acme/iris/main/production/greet" not in {one.prefix for one in (await builder.table()).routes}:
                await asyncio.sleep(0.05)
        assert (await builder.ask("/acme/iris/main/production/greet"))["model"] == "petals"
        log = await builder.call("GET", f"images/{row['image_id']}/log")
        assert log["status"] == "ready"
        assert log["lines"][-1] == "Ready."


async def test_the_server_outlives_the_builder_and_is_adopted(start: Start) -> None:
    async with start(ends_with_builder=False) as builder:
        version = await builder.version(await builder.deployment())
        row = await builder.until(version["id"], "AVAILABLE")
    assert await _answers(row["address_port"])
    async with start() as builder:
        await asyncio.sleep(3)  # it has been looked at
        again = await builder.until(version["id"], "AVAILABLE")
        assert again["address_port"] == row["address_port"], "the same process"
        assert again["restarts"] == 0
    assert not await _answers(row["address_port"])


async def test_a_killed_server_is_started_again(start: Start) -> None:
    async with start() as builder:
        version = await builder.version(await builder.deployment())
        row = await builder.until(version["id"], "AVAILABLE")
        os.killpg(_state(builder, row["id"]).pid, signal.SIGKILL)
        async with asyncio.timeout(15):
            while (await builder.endpoint(version["id"]))["address_port"] in (row["address_port"], None):
                await asyncio.sleep(0.05)
        await builder.until(version["id"], "AVAILABLE")


async def test_a_server_that_ends_says_why(start: Start) -> None:
    async with start() as builder:
        version = await builder.version(await builder.deployment(), command="echo cannot load the model; exit 3")
        row = await builder.until(version["id"], "UNAVAILABLE", 15)
        assert row["problem"] == "crash_loop"
        assert "exit code 3" in row["status_detail"]
        assert "cannot load the model" in row["status_detail"]
        await builder.call("DELETE", f"versions/{version['id']}")
        await _gone(builder, row["id"])


async def test_disabled_and_deleted_endpoints_have_no_processes_and_no_routes(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        version = await builder.version(deployment)
        row = await builder.until(version["id"], "AVAILABLE")
        pid = _state(builder, row["id"]).pid
        await builder.call("PATCH", f"endpoints/{row['id']}", {"enabled": False})
        assert (await builder.endpoint(version["id"]))["status"] == "DISABLED"
        (route,) = (await builder.table()).routes
        assert route.backends == ()
        async with asyncio.timeout(15):
            while psutil.pid_exists(pid):
                await asyncio.sleep(0.05)
        await builder.call("PATCH", f"endpoints/{row['id']}", {"enabled": True})
        await builder.until(version["id"], "AVAILABLE")
        await builder.call("DELETE", f"deployments/{deployment}")
        assert (await builder.table()).routes == ()
        await _gone(builder, row["id"])


async def test_requirements_that_do_not_install_fail_the_build_and_can_be_retried(start: Start) -> None:
    async with start() as builder:
        builder.gateway.add_commit("bad", {"server.py": "", "requirements.txt": "./no-such-package\n"})
        version = await builder.version(await builder.deployment(), commit="bad")
        row = await builder.until(version["id"], "BUILD_FAILED")
        assert "requirements cannot be installed" in row["status_detail"]
        assert "no-such-package" in row["status_detail"]
        await builder.call("POST", f"versions/{version['id']}/rebuild")
        await builder.until(version["id"], "BUILD_FAILED")
        await builder.call("POST", f"versions/{version['id']}/cancel")


async def test_a_build_waits_for_the_code(start: Start) -> None:
    async with start() as builder:
        builder.gateway.missing = True
        version = await builder.version(await builder.deployment())
        await asyncio.sleep(1)
        assert (await builder.endpoint(version["id"]))["status"] == "BUILDING_IMAGE"
        builder.gateway.missing = False
        await builder.until(version["id"], "AVAILABLE")


def _state(builder: RunningBuilder, endpoint_id: UUID) -> ReplicaState:
    settings = builder.context.settings.process
    assert settings is not None
    state = ReplicaState.read(settings.home / "replicas" / str(endpoint_id) / "0")
    assert state is not None
    return state


async def _gone(builder: RunningBuilder, endpoint_id: UUID) -> None:
    settings = builder.context.settings.process
    assert settings is not None
    async with asyncio.timeout(15):
        while (settings.home / "replicas" / str(endpoint_id)).exists():
            await asyncio.sleep(0.05)


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
