"""A connected store on a real S3 server: its test call, and outputs in parts up to their registration."""

import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from yarl import URL

from slipway_kit.transfer import transfer_session
from slipway_testing.s3 import S3Server
from tests.api.gateway.data.test_escrow import CONTENT, PART, SIZE, output_file, piece, sweep, turn_again

pytestmark = pytest.mark.s3


def configuration(server: S3Server, **more: str) -> dict:
    return {
        "bucket": server.bucket,
        "region": server.region,
        "endpoint_url": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        **more,
    }


async def connected(lab, server: S3Server, **more: str):
    body = {"name": "s3", "type": "s3", "project": lab.project["id"], "configuration": configuration(server, **more)}
    return await lab.me.post("/api/v0/stores/", json=body)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"secret_access_key": "wrong"}, "credentials"),
        ({"access_key_id": "nobody"}, "credentials"),
        ({"bucket": "no-such-bucket-here"}, "bucket"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "endpoint"),
    ],
)
async def test_a_configuration_that_does_not_work_is_refused(lab, real_s3: S3Server, wrong: dict, word: str) -> None:
    answer = await connected(lab, real_s3, **wrong)
    assert answer.status_code == 400, answer.text
    [problem] = answer.json()["configuration"]
    assert word in problem["message"]
    assert real_s3.secret_key not in answer.text


async def test_outputs_in_parts_on_a_connected_store(lab, machine, context, execute, real_s3: S3Server) -> None:
    made = await connected(lab, real_s3)
    assert made.status_code == 201, made.text
    store_id = UUID(made.json()["id"])
    await execute("UPDATE gateway.projects SET upload_store_id = $1", store_id)
    store = await context.data.stores.open(store_id)
    assert [one async for one in store.list()] == [], "the test call leaves nothing"
    await lab.created()
    attempt = await machine.start()
    ticket = (await attempt.post("uploads", {"name": "big", "size": SIZE, "version": "v"})).json()
    assert ticket["part_size"] == PART
    etags: dict[int, str] = {}
    async with transfer_session() as session:
        for number in (1, 2, 3):
            etags[number] = await _put(session, ticket["part_urls"][str(number)], piece(number))
        again = (await attempt.post("uploads", {"name": "big", "size": SIZE, "version": "v"})).json()
        assert again["datum_id"] == ticket["datum_id"]
        assert again["uploaded_parts"] == {str(number): etag for number, etag in etags.items()}
        for number in (4, 5):
            etags[number] = await _put(session, again["part_urls"][str(number)], piece(number))
    body = {"files": [output_file(ticket, etags)]}
    for _ in range(2):
        answer = await attempt.post("outputs", body)
        assert answer.json() == {"registered": 1, "warnings": []}
    [stored] = [one async for one in store.list("data")]
    assert stored.size == SIZE
    assert await store.get(stored.key) == CONTENT
    assert [one async for one in store.list_multipart()] == []


async def test_abandoned_parts_are_aborted_in_every_connected_store(lab, machine, context, execute, real_s3) -> None:
    store_id = UUID((await connected(lab, real_s3)).json()["id"])
    await execute("UPDATE gateway.projects SET upload_store_id = $1", store_id)
    await lab.created()
    attempt = await machine.start()
    await attempt.post("uploads", {"name": "waits", "size": SIZE})
    store = await context.data.stores.open(store_id)
    [waiting] = [one.upload async for one in store.list_multipart()]
    orphan = await store.create_multipart(waiting.key.replace("waits", "orphan"))
    stranger = await store.create_multipart("somebody/else.bin")
    assert await sweep(context).run() == 2, "the installation's own store, and this one"
    assert len([one async for one in store.list_multipart()]) == 3

    class Tomorrow:
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(hours=25)

    await turn_again(context)
    loop = sweep(context)
    loop._clock = Tomorrow()
    assert await loop.run() == 2
    left = {one.upload.upload_id async for one in store.list_multipart()}
    assert left == {waiting.upload_id, stranger.upload_id}
    assert orphan.upload_id not in left


async def _put(session, url: str, data: bytes) -> str:
    async with session.put(URL(url, encoded=True), data=io.BytesIO(data)) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"].strip('"')
