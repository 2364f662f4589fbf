"""Logs of endpoints: written by the builder, one for each replica and day, read together and for as long as others."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from slipway_logs.retention.loops import RetentionLoop
from tests.api.logs.harness import T0, Relay, Served, frame, metadata_frame, sse_events

DAY, NEXT_DAY = "2023-11-14", "2023-11-15"
SECOND = 1_000_000


def lines(*texts: str) -> list[bytes]:
    return [f"{text}\n".encode() for text in texts]


def texts(found: dict) -> list[str]:
    return [one["text"] for one in found["lines"]]


async def test_replicas_are_read_by_time_and_each_line_is_kept_once(relay: Relay):
    endpoint = await relay.world.add_endpoint()
    await relay.write(endpoint, "pod-1", DAY, frame(lines("a", "c"), 0, time_us=T0))
    await relay.write(endpoint, "pod-2", DAY, frame(lines("b"), 0, time_us=T0 + 1, stream=2))
    answer = await relay.write(endpoint, "pod-1", DAY, frame(lines("a", "c", "d"), 0, time_us=T0 + SECOND))
    assert answer.json()["next"] == 3
    await relay.write(endpoint, "pod-1", NEXT_DAY, frame(lines("e"), 0, time_us=T0 + 86400 * SECOND))
    found = await relay.of_endpoint(endpoint, "log")
    assert sorted(texts(found)[:3]) == ["a", "b", "c"]
    assert texts(found)[3:] == ["d", "e"]
    assert [one["stream"] for one in found["lines"] if one["text"] == "b"] == ["stderr"]
    assert texts(await relay.of_endpoint(endpoint, "log?limit=2")) == ["d", "e"]
    await relay.flush_all()
    assert await relay.of_endpoint(endpoint, "log") == found
    assert texts(await relay.of_endpoint(uuid4(), "log")) == []


async def test_only_the_builder_writes(relay: Relay):
    endpoint = await relay.world.add_endpoint()
    answer = await relay.write(endpoint, "pod-1", DAY, frame(lines("a"), 0), signer=relay.world.gateway)
    assert answer.status_code == 403
    for replica in ("a%2Fb", "a,b", "-"):
        assert (await relay.write(endpoint, replica, DAY)).status_code in {400, 404, 422}


async def test_a_lost_tail_is_asked_for_again(relay: Relay):
    endpoint = await relay.world.add_endpoint()
    sent = frame(lines("a", "b"), 0)
    await relay.write(endpoint, "0", DAY, sent)
    await relay.flush_all()
    await relay.write(endpoint, "0", DAY, frame(lines("c"), 2))
    await relay.context.redis.flushall()
    answer = (await relay.write(endpoint, "0", DAY)).json()
    assert (answer["next"], answer["durable"]) == (2, 2)
    await relay.write(endpoint, "0", DAY, frame(lines("a", "b", "c"), 0))
    assert texts(await relay.of_endpoint(endpoint, "log")) == ["a", "b", "c"]


async def test_metadata_of_all_replicas_is_one_series(relay: Relay):
    endpoint = await relay.world.add_endpoint()
    await relay.write(endpoint, "pod-1", DAY, metadata_frame([(T0, {"x": 1}), (T0 + 2, {"x": 3})], 0))
    again = metadata_frame([(T0, {"x": 1}), (T0 + 2, {"x": 3}), (T0 + 9, {"best": "dog"})], 0)
    answer = await relay.write(endpoint, "pod-1", DAY, frame(lines("l"), 0), again)
    assert answer.json()["metadata_next"] == 3
    await relay.write(endpoint, "pod-2", DAY, metadata_frame([(T0 + 1, {"x": 2})], 0), frame(lines("l"), 0))
    records = await relay.of_endpoint(endpoint, "metadata")
    assert [{k: v for k, v in one.items() if k != "_time"} for one in records] == [
        {"x": 1},
        {"x": 2},
        {"x": 3},
        {"best": "dog"},
    ]
    assert records[0]["_time"] == "2023-11-14T22:13:20.000000+00:00"
    assert [one.get("x") for one in await relay.of_endpoint(endpoint, "metadata?limit=2")] == [3, None]
    assert await relay.world.admin.fetchval("SELECT count(*) FROM logs_pub.metadata_latest_v1") == 0
    assert await relay.world.admin.fetchval("SELECT count(*) FROM logs_pub.log_total_v1") == 0


async def test_logs_go_by_day_and_some_time_after_their_endpoint(relay: Relay):
    kept, gone = await relay.world.add_endpoint(), await relay.world.add_endpoint()
    for endpoint in (kept, gone):
        await relay.write(endpoint, "0", DAY, frame(lines("old"), 0), metadata_frame([(T0, {"x": 1})], 0))
        await relay.write(endpoint, "0", NEXT_DAY, frame(lines("new"), 0, time_us=T0 + 86400 * SECOND))
    await relay.flush_all()
    admin = relay.world.admin
    await admin.execute("UPDATE logs.streams SET created_at = now() - interval '8 days' WHERE number = 738838")
    await admin.execute("UPDATE builder_pub.endpoint_access_v1 SET deleted_at = $1", datetime.now(UTC))
    loop = RetentionLoop(relay.context.db, relay.context.object_store, relay.context.clock, 7, timedelta(days=30))
    assert await loop.run() == 2
    assert texts(await relay.of_endpoint(kept, "log")) == ["new"]
    assert await relay.of_endpoint(kept, "metadata") == []
    past = datetime.now(UTC) - timedelta(days=31)
    await admin.execute("UPDATE builder_pub.endpoint_access_v1 SET deleted_at = $2 WHERE id = $1", gone, past)
    assert await loop.run() == 1
    assert texts(await relay.of_endpoint(gone, "log")) == []
    assert texts(await relay.of_endpoint(kept, "log")) == ["new"]


async def test_a_browser_follows_all_replicas_and_comes_back(served: Served, world):
    endpoint = await world.add_endpoint()
    token = await world.add_user("token")
    stranger = await world.add_user("stranger", user_id=2, sees=False)
    write = Writer(served, endpoint)
    await write("pod-1", frame(lines("a"), 0))
    path = f"/api/v1/streams/deployment-endpoints/{endpoint}/log/"

    async def follow(count: int, query: str = "", **headers: str) -> tuple[list[str], str]:
        heard, place = [], ""
        async with asyncio.timeout(10):
            url = served.url("public", path + query)
            async with served.http.stream("GET", url, headers={"Authorization": f"Token {token}", **headers}) as answer:
                assert answer.status_code == 200
                async for newest, _, found in sse_events(answer):
                    place = newest
                    heard += [f"{one['replica']} {one['message']}" for one in found]
                    if len(heard) >= count:
                        break
        return heard, place

    following = asyncio.create_task(follow(3))
    await asyncio.sleep(0.7)
    await write("pod-2", frame(lines("b"), 0))
    await write("pod-1", frame(lines("c"), 1))
    heard, place = await following
    assert sorted(heard) == ["pod-1 a", "pod-1 c", "pod-2 b"]
    await write("pod-2", frame(lines("d"), 1))
    assert (await follow(1, **{"Last-Event-ID": place}))[0] == ["pod-2 d"]
    assert (await follow(1, f"?from={place}"))[0] == ["pod-2 d"]
    refused = await served.http.get(served.url("public", path), headers={"Authorization": f"Token {stranger}"})
    assert refused.status_code == 404
    odd = await served.http.get(served.url("public", f"{path}?from=x"), headers={"Authorization": f"Token {token}"})
    assert odd.status_code == 400


class Writer:
    """The builder's hand on a running relay."""

    def __init__(self, served: Served, endpoint: object) -> None:
        self._served = served
        self._endpoint = endpoint

    async def __call__(self, replica: str, *frames: bytes) -> None:
        answer = await self._served.http.post(
            self._served.url("internal", f"/internal/v1/endpoints/{self._endpoint}/replicas/{replica}/log/{DAY}"),
            content=b"".join(frames),
            headers={"Authorization": f"Bearer {self._served.world.builder.token('logs')}"},
        )
        assert answer.status_code == 200, answer.text
