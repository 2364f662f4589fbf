"""Clean-ups delete what no version needs, and never beside a build."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import text

from tests.api.builder.harness import RunningBuilder, Start


async def _execute(builder: RunningBuilder, statement: str, **values: object) -> None:
    async with builder.context.db.transaction() as session:
        await session.execute(text(statement), values)


async def test_bundles_that_no_version_needs_are_deleted_when_that_is_said(start: Start, tmp_path: Path) -> None:
    async with start() as builder:
        deployment = await builder.deployment()
        versions = [await builder.version(deployment, model=words) for words in (b"one", b"two")]
        for version in versions:
            await builder.until(version["id"], "AVAILABLE")
        path = f"targets/{builder.target_id}/clean-up"
        assert (await builder.call("POST", path)) == {"deleted": [], "kept": 2, "dry_run": True}
        await builder.call("DELETE", f"versions/{versions[0]['id']}")
        async with asyncio.timeout(20):
            while len(list((tmp_path / "serving" / "replicas").iterdir())) > 1:
                await asyncio.sleep(0.05)
            while len((planned := await builder.call("POST", path))["deleted"]) != 1:
                await asyncio.sleep(0.05)
        assert len(list((tmp_path / "serving" / "code").iterdir())) == 2, "a dry run deletes nothing"
        done = await builder.call("POST", f"{path}?dry_run=false")
        assert (done["deleted"], done["kept"], done["dry_run"]) == (planned["deleted"], 1, False)
        assert len(list((tmp_path / "serving" / "code").iterdir())) == 1
        assert (await builder.ask(f"/acme/iris/main/{versions[1]['name']}/greet"))["model"] == "two"
        await builder.call("POST", f"targets/{uuid4()}/clean-up", status=404)


async def test_builds_and_clean_ups_exclude_each_other(start: Start) -> None:
    async with start(lease_seconds=2) as builder:
        deployment = await builder.deployment()
        version = await builder.version(deployment)
        await builder.until(version["id"], "AVAILABLE")
        path = f"targets/{builder.target_id}/clean-up?dry_run=false"
        await _execute(
            builder, "UPDATE images SET lease_token = gen_random_uuid(), leased_until = now() + interval '9 s'"
        )
        refused = await builder.call("POST", path, status=409)
        assert refused["code"] == "builds_under_way"
        await _execute(builder, "UPDATE images SET lease_token = NULL, leased_until = NULL")
        await builder.call("POST", path)
        await _execute(
            builder,
            "INSERT INTO clean_ups (id, next_at, lease_token, leased_until)"
            " VALUES (:id, now(), gen_random_uuid(), now() + interval '3 s')"
            " ON CONFLICT (id) DO UPDATE SET lease_token = gen_random_uuid(), leased_until = now() + interval '3 s'",
            id=builder.target_id,
        )
        second = await builder.version(deployment, model=b"later")
        await asyncio.sleep(1.5)
        async with builder.context.db.read() as session:
            status = await session.scalar(
                text("SELECT status FROM images WHERE version_id = :id"), {"id": UUID(second["id"])}
            )
        assert status == "waiting"
        await builder.call("POST", path, status=409)
        await builder.until(second["id"], "AVAILABLE")
