"""Uploads of outputs that are asked for twice, broken off, joined twice, dropped by the store, or abandoned."""

import asyncio
import hashlib
import os
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from slipway_gateway.data.loops import AbortUploads, SweepStores
from slipway_gateway.data.tables import StoreSweepRow
from slipway_kit.errors import Unavailable
from slipway_storage import MultipartUpload
from slipway_storage.keys import code_key, data_key

SIZE = 70 * 1024**2
PART = 16 * 1024**2


def piece(number: int) -> bytes:
    return bytes([number]) * min(PART, SIZE - (number - 1) * PART)


CONTENT = b"".join(piece(number) for number in range(1, 6))


def output_file(ticket: dict, etags: dict[int, str]) -> dict:
    hashes = {name: hashlib.new(name, CONTENT).hexdigest() for name in ("md5", "sha1", "sha256")}
    return {"datum_id": ticket["datum_id"], "name": "big", "size": SIZE, "etags": etags, **hashes}


async def put_part(store, upload: MultipartUpload, number: int) -> str:
    async with store.open_writer() as writer:
        await writer.write(piece(number))
        return str(await writer.commit_part(upload, number))


@pytest.fixture
async def attempt(lab, machine):
    await lab.created()
    return await machine.start()


async def upload_of(context, execute_rows, ticket: dict) -> MultipartUpload:
    [row] = await execute_rows("SELECT key, upload_id FROM gateway.uploads WHERE id = $1", UUID(ticket["datum_id"]))
    return MultipartUpload(key=row["key"], upload_id=row["upload_id"])


@pytest.fixture
async def rows(database_url: str):
    import asyncpg

    connection = await asyncpg.connect(database_url)
    yield connection.fetch
    await connection.close()


async def test_one_upload_per_version_however_often_it_is_asked_for(attempt) -> None:
    wanted = {"name": "m", "size": 3, "version": "3-1-1"}
    tickets = await asyncio.gather(*(attempt.post("uploads", wanted) for _ in range(8)))
    assert len({one.json()["datum_id"] for one in tickets}) == 1
    other = await attempt.post("uploads", {**wanted, "version": "3-2-1"})
    assert other.json()["datum_id"] != tickets[0].json()["datum_id"], "bytes of two files would be mixed"


async def test_parts_resume_and_are_joined_once(attempt, context, rows, monkeypatch) -> None:
    """The worker does not wait for the join: it asks again, and several ask at once."""
    store = context.object_store
    wanted = {"name": "big", "size": SIZE, "version": "v"}
    first = (await attempt.post("uploads", wanted)).json()
    upload = await upload_of(context, rows, first)
    etags = {number: await put_part(store, upload, number) for number in range(1, 4)}
    again = (await attempt.post("uploads", wanted)).json()
    assert again["datum_id"] == first["datum_id"]
    assert again["uploaded_parts"] == {str(number): etag for number, etag in etags.items()}
    assert sorted(again["part_urls"]) == ["4", "5"]
    etags |= {number: await put_part(store, upload, number) for number in (4, 5)}
    joins = []
    complete = store.complete_multipart

    async def slowly(upload, parts):
        joins.append(upload)
        await asyncio.sleep(0.3)
        return await complete(upload, parts)

    monkeypatch.setattr(store, "complete_multipart", slowly)
    body = {"files": [output_file(first, etags)]}
    impatient = asyncio.create_task(attempt.post("outputs", body))
    await asyncio.sleep(0.1)
    impatient.cancel()
    answers = await asyncio.gather(*(attempt.post("outputs", body) for _ in range(3)))
    assert [one.json()["registered"] for one in answers] == [1, 1, 1]
    assert len(joins) == 1
    assert await store.get(upload.key) == CONTENT


async def test_a_part_that_came_twice_is_named_so_that_the_worker_asks_again(attempt, context, rows) -> None:
    store = context.object_store
    ticket = (await attempt.post("uploads", {"name": "big", "size": SIZE})).json()
    upload = await upload_of(context, rows, ticket)
    etags = {number: await put_part(store, upload, number) for number in range(1, 6)}
    await put_part(store, upload, 2)
    answer = await attempt.post("outputs", {"files": [output_file(ticket, etags)]})
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_incomplete")
    assert answer.json()["details"] == {"datum_id": ticket["datum_id"]}
    again = (await attempt.post("uploads", {"name": "big", "size": SIZE})).json()
    etags = {int(number): etag for number, etag in again["uploaded_parts"].items()}
    answer = await attempt.post("outputs", {"files": [output_file(again, etags)]})
    assert answer.json()["registered"] == 1


async def test_parts_that_the_store_has_dropped_are_begun_anew(attempt, context, rows) -> None:
    ticket = (await attempt.post("uploads", {"name": "big", "size": SIZE})).json()
    upload = await upload_of(context, rows, ticket)
    await context.object_store.abort_multipart(upload)
    again = await attempt.post("uploads", {"name": "big", "size": SIZE})
    assert again.status_code == 200, again.text
    assert again.json()["uploaded_parts"] == {}
    assert (await upload_of(context, rows, again.json())).upload_id != upload.upload_id


def sweep(context, **more: timedelta) -> SweepStores:
    times = {"abandoned_after": timedelta(hours=24), "every": timedelta(minutes=10), **more}
    return SweepStores(context.db, context.data.stores, context.clock, **times)


async def turn_again(context) -> None:
    async with context.db.transaction() as session:
        await session.execute(update(StoreSweepRow).values(swept_at=None))


def age(context, hours: float) -> None:
    """Make everything in the local store older."""
    root = context.object_store.config.path / ".slipway"
    for path in [*root.rglob("*")]:
        found = path.stat()
        os.utime(path, (found.st_atime, found.st_mtime - hours * 3600))


async def test_what_nobody_completes_is_swept_and_what_waits_is_not(attempt, context, rows) -> None:
    store = context.object_store
    waiting = await upload_of(context, rows, (await attempt.post("uploads", {"name": "big", "size": SIZE})).json())
    orphan = await store.create_multipart(data_key(uuid4(), uuid4(), "orphan"))
    archive = await store.create_multipart(code_key("0" * 64))
    stranger = await store.create_multipart("somebody/else.bin")
    half = store.open_writer()
    await half.__aenter__()  # as a gateway leaves it that is killed while it takes a body
    incoming = store.config.path / ".slipway" / "incoming"

    assert await sweep(context).run() == 1
    assert len([one async for one in store.list_multipart()]) == 4, "nothing is old yet"
    age(context, 25)
    assert await sweep(context).run() == 0, "it is not this store's turn"
    await turn_again(context)
    swept = await asyncio.gather(sweep(context).run(), sweep(context).run())
    assert sorted(swept) == [0, 1], "one gateway sweeps a store"
    left = {one.upload.upload_id async for one in store.list_multipart()}
    assert left == {waiting.upload_id, stranger.upload_id}
    assert {orphan.upload_id, archive.upload_id}.isdisjoint(left)
    assert list(incoming.iterdir()) == []
    await half.__aexit__(None, None, None)


async def test_uploads_of_people_are_given_up_after_the_setting(lab, context, execute, rows) -> None:
    begun = await lab.me.post("/api/v0/data/upload/", json={"project": lab.project["id"], "name": "left", "size": 5})
    assert begun.status_code in (200, 201), begun.text
    loop = AbortUploads(context.db, context.data.stores, context.clock, timedelta(hours=24))
    assert await loop.run() == 0
    await execute("UPDATE gateway.uploads SET created_at = now() - interval '25 hours'")
    assert await loop.run() == 1
    assert await rows("SELECT FROM gateway.uploads") == []


async def test_a_store_that_is_away_holds_up_no_other(attempt, context, execute, rows, monkeypatch) -> None:
    for name in ("a", "b"):
        await attempt.post("uploads", {"name": name, "size": 1})
    await execute("UPDATE gateway.uploads SET abort_at = now()")
    delete = context.object_store.delete

    async def away_for_a(key: str) -> None:
        if key.endswith("/a"):
            raise Unavailable("away")
        await delete(key)

    monkeypatch.setattr(context.object_store, "delete", away_for_a)
    loop = AbortUploads(context.db, context.data.stores, context.clock, timedelta(hours=24))
    assert await loop.run() == 1
    assert [row["name"] for row in await rows("SELECT name FROM gateway.uploads")] == ["a"]
