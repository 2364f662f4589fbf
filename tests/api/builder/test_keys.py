"""Keys of test calls are shown to nobody and swept, and routers are heard only with their token."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from slipway_builder.keys.loops import HiddenKeysLoop
from slipway_schemas.inference.versions import KeyDraft
from tests.api.builder.harness import Start


async def test_a_key_of_a_test_call_is_hidden_and_swept(start: Start, database_url: str) -> None:
    async with start() as builder:
        deployment = await builder.deployment()

        async def make(*, hidden: bool, seconds: float) -> UUID:
            draft = KeyDraft(
                id=uuid4(),
                deployment_id=deployment,
                consumer="me",
                creator_id=1,
                key_hash=uuid4().hex * 2,
                expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
                hidden=hidden,
            )
            await builder.call("POST", "keys", draft)
            return draft.id

        shown = await make(hidden=False, seconds=0.5)
        forgotten, ended = await make(hidden=True, seconds=0.5), await make(hidden=True, seconds=60)
        assert {one.key_id for one in (await builder.table()).keys} == {shown, forgotten, ended}
        admin = await asyncpg.connect(database_url)
        assert await _ids(admin, "builder_pub.key_v1") == {shown}
        await builder.call("DELETE", f"keys/{ended}")
        await asyncio.sleep(0.6)
        await HiddenKeysLoop(builder.context.db).run()
        assert await _ids(admin, "builder.keys") == {shown}
        await admin.close()
        assert [one.key_id for one in (await builder.table()).keys] == [shown]


async def test_the_body_of_a_router_without_a_token_is_not_read(start: Start) -> None:
    async with start() as builder:
        port = builder.http.base_url.port
        for token in ("", "Authorization: Bearer wrong\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = "POST /internal/v1/routers/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n"
            writer.write(f"{head}{token}\r\n{{".encode())
            async with asyncio.timeout(5):
                assert b" 401 " in await reader.readline()
            writer.close()


async def _ids(admin: Any, table: str) -> set[UUID]:
    return {row["id"] for row in await admin.fetch(f"SELECT id FROM {table}")}
