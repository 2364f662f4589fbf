"""Targets are changed while they serve, and removed when nothing is on them."""

import asyncio

from sqlalchemy import text

from slipway_schemas.inference.statuses import TargetKind
from slipway_schemas.inference.versions import TargetChange, TargetDraft
from tests.api.builder.harness import RunningBuilder, Start

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: hush}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
"""


def _cluster(**cluster: object) -> TargetDraft:
    images = {"registry": {"host": "registry.test", "username": "u", "password": "hush"}}
    settings = {"cluster": {"namespace": "a", "kubeconfig": KUBECONFIG, **cluster}, "images": images}
    return TargetDraft(name="north", kind=TargetKind.KUBERNETES, public_url="http://north.test/", settings=settings)


async def _rows(builder: RunningBuilder, statement: str, **values: object) -> list[object]:
    async with builder.context.db.read() as session:
        return [tuple(row) for row in await session.execute(text(statement), values)]


async def test_what_a_target_serves_is_applied_again_when_it_changes(start: Start) -> None:
    async with start() as builder:
        version = await builder.version(await builder.deployment())
        before = await builder.until(version["id"], "AVAILABLE")
        path = f"targets/{builder.target_id}"
        await builder.call("PATCH", path, TargetChange(public_url="https://models.test/", settings={}))
        assert await _rows(builder, "SELECT public_url FROM targets") == [("https://models.test",)]
        async with asyncio.timeout(20):
            while (now := await builder.endpoint(version["id"]))["applied_generation"] != before["generation"]:
                await asyncio.sleep(0.05)
        assert (now["status"], now["generation"]) == ("AVAILABLE", before["generation"])
        assert (await builder.ask(f"/acme/iris/main/{version['name']}/greet"))["path"]


async def test_settings_are_shown_without_secrets_and_keep_them(start: Start) -> None:
    async with start() as builder:
        made = await builder.call("POST", "targets", _cluster())
        path = f"targets/{made['id']}"
        shown = (await builder.call("GET", path))["settings"]
        assert (shown["cluster"]["kubeconfig"], shown["images"]["registry"]["password"]) == ("********", "********")
        shown["cluster"]["max_replicas"] = 3
        await builder.call("PATCH", path, TargetChange(settings=shown))
        async with builder.context.factory.db.read() as session:
            record = await builder.context.factory.targets(session).get(made["id"])
        kept = builder.context.factory.pool.settings(record)
        assert (kept["cluster"]["kubeconfig"], kept["cluster"]["max_replicas"]) == (KUBECONFIG, 3)
        wrong = await builder.call("PATCH", path, TargetChange(settings={"cluster": {"namespace": "A_"}}), status=400)
        assert "namespace" in str(wrong)
        moved = {**shown, "cluster": {**shown["cluster"], "namespace": "b"}}
        await builder.call("PATCH", path, TargetChange(settings=moved))
        deployment = await builder.deployment("north", target=made["id"])
        version = await builder.version(deployment)
        async with builder.context.db.transaction() as session:
            statement = text("UPDATE endpoints SET serving = true, generation = 1 WHERE version_id = :id")
            await session.execute(statement, {"id": version["id"]})
        refused = await builder.call("PATCH", path, TargetChange(settings=shown), status=409)
        assert "from the namespace b" in refused["detail"]


async def test_one_target_is_the_default_one(start: Start) -> None:
    async with start() as builder:
        made = await builder.call("POST", "targets", _cluster())
        await builder.call("PATCH", f"targets/{made['id']}", TargetChange(is_default=True))
        assert await _rows(builder, "SELECT name FROM targets WHERE is_default") == [("north",)]
        await builder.call("DELETE", f"targets/{made['id']}")
        assert await _rows(builder, "SELECT name FROM targets WHERE is_default") == []


async def test_a_target_goes_when_nothing_is_on_it(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        version = await builder.version(deployment)
        await builder.until(version["id"], "AVAILABLE")
        path = f"targets/{builder.target_id}"
        assert "1 deployments (main)" in (await builder.call("DELETE", path, status=409))["detail"]
        await builder.call("DELETE", f"deployments/{deployment}")
        async with asyncio.timeout(20):
            while await _rows(builder, "SELECT 1 FROM endpoints WHERE serving OR generation <> applied_generation"):
                await asyncio.sleep(0.05)
        await builder.call("DELETE", path)
        await builder.call("GET", path, status=404)
        await builder.call("DELETE", path, status=404)


async def test_a_new_router_token_ends_the_one_before(start: Start) -> None:
    async with start() as builder:
        await builder.table()
        made = await builder.call("POST", f"targets/{builder.target_id}/router-token")
        before, builder.router_token = builder.router_token, made["router_token"]
        await builder.table()
        answer = await builder.http.post(
            "/internal/v1/routers/sync",
            json={"router_id": "x", "target_id": str(builder.target_id), "applied_revision": 0, "wait_seconds": 0},
            headers={"Authorization": f"Bearer {before}"},
        )
        assert answer.status_code == 401
