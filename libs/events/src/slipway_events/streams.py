"""How events lie in Redis: one stream per publisher, the tail of what Postgres holds.

An entry's id is `<position>-0`, so Redis itself refuses an older or a second copy, and a gap shows. Only
commands that Redis 7.0 and Valkey 9 both know are used.
"""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from slipway_schemas.events import EventEnvelope

REDIS_TIMEOUT_SECONDS = 10.0
_FIELD = b"e"


def connect_redis(url: str) -> Redis:
    """Return a client with time-outs whose answers are bytes."""
    return Redis.from_url(
        url,
        decode_responses=False,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
    )


def stream_of(publisher: str) -> str:
    """Return the stream's key."""
    return f"events:{publisher}"


async def last_position(redis: Redis, publisher: str) -> int | None:
    """Return the position last added to the stream; None when there is no stream."""
    try:
        info = await redis.xinfo_stream(stream_of(publisher))
    except ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    return position_of(info["last-generated-id"])


def position_of(entry_id: bytes | str) -> int:
    """Return the position in an entry's id."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


async def add(redis: Redis, publisher: str, envelopes: list[EventEnvelope], *, keep: int) -> None:
    """Append events in one round trip; those that are there already are passed over."""
    stream = stream_of(publisher)
    async with redis.pipeline(transaction=False) as pipeline:
        for envelope in envelopes:
            pipeline.xadd(
                stream,
                {_FIELD: envelope.model_dump_json().encode()},
                id=f"{envelope.position}-0",
                maxlen=keep,
                approximate=True,
            )
        answers = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, ResponseError) and "equal or smaller" in str(answer):
            continue  # another replica was first
        if isinstance(answer, Exception):
            raise answer


async def read(redis: Redis, publisher: str, *, after: int, limit: int, block_seconds: float) -> list[EventEnvelope]:
    """Return the entries after a position; waits up to `block_seconds` for the first."""
    answer: Any = await redis.xread({stream_of(publisher): f"{after}-0"}, count=limit, block=int(block_seconds * 1000))
    if not answer:
        return []
    # RESP3 answers with {stream: [entries]}, RESP2 with [[stream, entries]].
    entries = next(iter(answer.values()))[0] if isinstance(answer, dict) else answer[0][1]
    return [EventEnvelope.model_validate_json(fields[_FIELD]) for _, fields in entries]
