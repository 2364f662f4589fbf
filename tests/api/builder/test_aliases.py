"""Aliases move to what serves, go back, and are confirmed by the routers; names and keys below a deployment."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import text

from slipway_builder.aliases.loops import BoundsLoop, WantedAliasLoop
from slipway_builder.observe.store import CountStore
from slipway_schemas.inference.routing import RouteCount
from slipway_schemas.inference.versions import AliasMove, KeyDraft
from tests.api.builder.harness import RunningBuilder, Start

ALIAS = "/acme/iris/main/production/greet"


async def _two_versions(builder: RunningBuilder) -> tuple[UUID, list[UUID]]:
    deployment = await builder.deployment()
    made = [await builder.version(deployment, model=words) for words in (b"one", b"two")]
    for version in made:
        await builder.until(version["id"], "AVAILABLE")
    return deployment, [UUID(version["id"]) for version in made]


async def _path(builder: RunningBuilder, deployment: UUID) -> str:
    async with builder.context.db.read() as session:
        rows = await session.execute(
            text("SELECT version_id FROM alias_moves WHERE deployment_id = :id ORDER BY at"), {"id": deployment}
        )
        return " ".join(str(row.version_id) for row in rows)


async def test_a_move_is_confirmed_by_every_router_and_can_be_taken_back(start: Start) -> None:
    async with start() as builder:
        deployment, (first, second) = await _two_versions(builder)
        place = f"deployments/{deployment}/aliases/production"

        async def follow(router: str) -> None:
            applied = 0
            while True:
                applied = (await builder.table(applied, wait=5, router=router)).revision

        routers = [asyncio.create_task(follow(name)) for name in ("router-1", "router-2")]
        await asyncio.sleep(0.5)
        moved = await builder.call("PUT", place, AliasMove(version_id=first))
        assert (moved["confirmed_routers"], moved["unconfirmed_routers"]) == (2, [])
        routers[1].cancel()
        await asyncio.gather(routers[1], return_exceptions=True)
        moved = await builder.call("PUT", place, AliasMove(version_id=second))
        assert moved["unconfirmed_routers"] == ["router-2"], "it was heard of a moment ago, and does not answer"
        assert (await builder.ask(ALIAS))["model"] == "two"
        await builder.call("POST", f"{place}/rollback")
        assert (await builder.ask(ALIAS))["model"] == "one"
        assert await _path(builder, deployment) == f"{first} {second} {first}"
        await builder.call("DELETE", place)
        assert ALIAS not in {one.prefix for one in (await builder.table()).routes}
        routers[0].cancel()
        await asyncio.gather(routers[0], return_exceptions=True)


async def test_what_does_not_serve_gets_no_alias_and_names_are_taken_once(start: Start) -> None:
    async with start() as builder:
        deployment, (first, _) = await _two_versions(builder)
        builder.gateway.missing = True
        waiting = await builder.version(deployment, name="waiting")
        place = f"deployments/{deployment}/aliases"
        refused = await builder.call(
            "PUT", f"{place}/production", AliasMove(version_id=UUID(waiting["id"])), status=409
        )
        assert refused["code"] == "not_ready"
        assert "being built" in refused["detail"] or "Waiting" in refused["detail"]
        taken = await builder.call("PUT", f"{place}/waiting", AliasMove(version_id=first), status=409)
        assert taken["code"] == "unique"
        await builder.call("PUT", f"{place}/production", AliasMove(version_id=first))
        again = await builder.call("POST", f"{place}/production/rollback", status=409)
        assert again["code"] == "no_previous"
        in_use = await builder.call("DELETE", f"versions/{first}", status=409)
        assert "production" in in_use["detail"]


async def test_an_alias_goes_back_by_itself_when_its_bound_is_crossed(start: Start) -> None:
    async with start() as builder:
        deployment, (first, second) = await _two_versions(builder)
        place = f"deployments/{deployment}/aliases/production"
        await builder.call("PUT", place, AliasMove(version_id=first))
        await builder.call("PUT", place, AliasMove(version_id=second, max_error_percent=10))
        for errors in (1, 19):
            assert (await builder.ask(ALIAS))["model"] == "two"
            count = RouteCount(prefix=ALIAS, version_id=second, requests=20, server_errors=errors)
            async with builder.context.db.transaction() as session:
                await CountStore(session).add(builder.target_id, [count], datetime.now(UTC))
            await asyncio.sleep(3 if errors == 1 else 0)
        # Builders do not hold each other up: whoever sees it second must not go forth again.
        await asyncio.gather(*(BoundsLoop(builder.context.db).run() for _ in range(3)))
        async with asyncio.timeout(10):
            while (await builder.ask(ALIAS))["model"] != "one":
                await asyncio.sleep(0.1)
        async with builder.context.db.read() as session:
            last = (await session.execute(text("SELECT * FROM alias_moves ORDER BY at DESC LIMIT 1"))).mappings().one()
        assert last["automatic"]
        assert "50.0 % of 40 answers were errors" in last["reason"]
        assert await _path(builder, deployment) == f"{first} {second} {first}"


async def test_an_alias_that_a_version_was_created_with_is_given_once_by_several_builders(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        version = await builder.version(deployment, aliases=["production"])
        loops = [WantedAliasLoop(builder.context.db) for _ in range(3)]
        async with asyncio.timeout(30):
            while not await _path(builder, deployment):
                await asyncio.gather(*(loop.run() for loop in loops))
        assert await _path(builder, deployment) == version["id"]


async def test_a_move_that_is_said_twice_is_one(start: Start) -> None:
    async with start() as builder:
        deployment, (first, second) = await _two_versions(builder)
        place = f"deployments/{deployment}/aliases/production"
        await builder.call("PUT", place, AliasMove(version_id=first))
        moves = [await builder.call("PUT", place, AliasMove(version_id=second)) for _ in range(2)]
        assert moves[0]["previous_version_id"] == moves[1]["previous_version_id"] == str(first)
        assert await _path(builder, deployment) == f"{first} {second}"
        await builder.call("PUT", place, AliasMove(version_id=second, max_error_percent=5))
        assert await _path(builder, deployment) == f"{first} {second} {second}", "another bound is another move"


async def test_routers_hear_of_keys_and_of_their_end(start: Start) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        draft = KeyDraft(
            id=uuid4(), deployment_id=deployment, consumer="shop", creator_id=1, key_hash="a" * 64, endpoints=("greet",)
        )
        await builder.call("POST", "keys", draft)
        await builder.call("POST", "keys", draft)
        table = await builder.table()
        assert [(one.consumer, one.endpoints) for one in table.keys] == [("shop", ("greet",))]
        await builder.call("DELETE", f"keys/{draft.id}")
        changes = await builder.table(table.revision)
        assert [(one.key_id, one.removed) for one in changes.keys] == [(draft.id, True)]
        await builder.call("DELETE", f"keys/{draft.id}", status=404)


async def test_only_the_targets_own_token_opens_its_table(start: Start) -> None:
    async with start() as builder:
        builder.router_token = "another"
        body = {"router_id": "x", "target_id": str(builder.target_id), "applied_revision": 0, "wait_seconds": 0}
        answer = await builder.http.post(
            "/internal/v1/routers/sync", json=body, headers={"Authorization": "Bearer another"}
        )
        assert answer.status_code == 401
