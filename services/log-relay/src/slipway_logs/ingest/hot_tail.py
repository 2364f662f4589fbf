"""The hot tail of a running attempt in Valkey or Redis.

Two keys per attempt: a stream with one entry per frame, whose id is the frame's first line + 1 (ids start at 1), and a
hash with the next line wanted and the last time given. Everything here can be lost: what is not durable yet is sent
again by the worker, from the line that the service then asks for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from slipway_kit.errors import Unavailable
from slipway_logs.frames import Frame, unpack_frame
from slipway_logs.ingest import scripts
from slipway_schemas.logs import FrameFlag

KEY_LIFE_SECONDS = 3 * 24 * 3600
"""Keys of an attempt that nobody wrote to for this long are dropped by the server itself."""

ENDED_LIFE_SECONDS = 600
DIRTY_KEY = "log-dirty"
_PAGE_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Appended:
    """What the tail answered: the next line it wants, where durable lines end, and how much it took."""

    next: int
    durable: int
    frames: int = 0
    lines: int = 0
    bytes: int = 0
    cut: int | None = None
    """Index of the frame that has lines before and after `next`: cut it there and append again from it on."""


@dataclass(frozen=True, slots=True)
class DueAttempt:
    """An attempt whose frames are to be made durable now."""

    attempt_id: UUID
    ended: bool
    """Whether no more lines follow."""


def stream_key(attempt_id: UUID) -> str:
    """Key of the attempt's stream of frames."""
    return f"log:{attempt_id}"


def state_key(attempt_id: UUID) -> str:
    """Key of the attempt's state."""
    return f"log:{attempt_id}:state"


@contextmanager
def redis_answers() -> Iterator[None]:
    """Turn a failure of the server into `Unavailable`: the caller tries again later."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"Redis does not answer ({type(error).__name__}); lines are kept by the worker until it does."
        ) from error


class HotTail:
    """Append to, read and trim the tails of all attempts. Raises `Unavailable` when the server does not answer."""

    def __init__(self, redis: Redis, *, full_bytes: int = 1024 * 1024) -> None:
        self._redis = redis
        self._full_bytes = full_bytes
        self._append: AsyncScript = redis.register_script(scripts.APPEND)
        self._restore: AsyncScript = redis.register_script(scripts.RESTORE)
        self._settle: AsyncScript = redis.register_script(scripts.SETTLE)

    async def append(self, attempt_id: UUID, frames: Sequence[Frame], now: float) -> Appended | None:
        """Append the frames that follow; None when the tail knows nothing of the attempt (call `restore`)."""
        arguments: list[bytes | str | int | float] = [now, KEY_LIFE_SECONDS, self._full_bytes]
        for frame in frames:
            header = frame.header
            ends = 1 if header.flags & FrameFlag.END else 0
            arguments += [header.first, header.lines, header.time_us, ends, frame.pack()]
        with redis_answers():
            answer = await self._append(keys=_keys(attempt_id), args=arguments)
        next_line, durable, taken, lines, size, cut = (int(value) for value in answer)
        if next_line < 0:
            return None
        return Appended(next_line, durable, taken, lines, size, cut if cut >= 0 else None)

    async def restore(self, attempt_id: UUID, durable: int, last_time_us: int) -> None:
        """Start the tail at what is durable, unless it has state."""
        with redis_answers():
            await self._restore(keys=_keys(attempt_id), args=[durable, last_time_us, KEY_LIFE_SECONDS])

    async def position(self, attempt_id: UUID) -> Appended | None:
        """What `append` would answer to nothing; None when the tail knows nothing of the attempt."""
        with redis_answers():
            next_line, durable = await self._redis.hmget(state_key(attempt_id), ["next", "durable"])
        return None if next_line is None else Appended(int(next_line), int(durable or 0))

    async def read(self, attempt_id: UUID, first: int) -> list[Frame]:
        """Frames from the one that holds line `first` on; the first of them may start earlier, or later if trimmed."""
        key = stream_key(attempt_id)
        with redis_answers():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xrevrange(key, max=f"{first + 1}-0", min="-", count=1)
                pipe.xrange(key, min=f"({first + 1}-0", max="+", count=_PAGE_FRAMES)
                before, after = await pipe.execute()
        entries = [*_entries(before), *_entries(after)]
        frames = [unpack_frame(fields[b"f"]).moved_to(int(fields[b"t"])) for _, fields in entries]
        return [frame for frame in frames if frame.end > first]

    async def wait(self, attempt_id: UUID, after_line: int, block_ms: int) -> bool:
        """Wait until a frame at or after this line is there; False when the time is over."""
        with redis_answers():
            found = await self._redis.xread({stream_key(attempt_id): f"{after_line}-0"}, count=1, block=block_ms)
        return bool(found)

    async def trim(self, attempt_id: UUID, keep_from: int) -> None:
        """Drop frames that start before line `keep_from`; only durable ones may be dropped."""
        with redis_answers():
            await self._redis.xtrim(stream_key(attempt_id), minid=f"{keep_from + 1}-0", approximate=False)

    async def let_go(self, attempt_id: UUID) -> None:
        """The attempt ended and is durable: its keys may go soon."""
        with redis_answers():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.expire(stream_key(attempt_id), ENDED_LIFE_SECONDS)
                pipe.expire(state_key(attempt_id), ENDED_LIFE_SECONDS)
                await pipe.execute()

    async def due(self, waiting_since: float, limit: int) -> list[DueAttempt]:
        """Attempts that ended, that are full, and that wait since before that time, in this order."""
        with redis_answers():
            found = await self._redis.zrange(
                DIRTY_KEY, 0, f"{waiting_since:f}", byscore=True, offset=0, num=limit, withscores=True
            )
        scored = cast("list[tuple[bytes, float]]", found)
        return [DueAttempt(UUID(member.decode().removeprefix("log:")), float(score) == 0) for member, score in scored]

    async def undurable(self) -> int:
        """How many attempts have lines that are not durable."""
        with redis_answers():
            return int(await self._redis.zcard(DIRTY_KEY))

    async def settle(self, attempt_id: UUID, durable: int, last_time_us: int, written_bytes: int, now: float) -> bool:
        """Tell that lines below `durable` are in the log store; True when nothing else is waiting."""
        arguments: list[int | float] = [durable, written_bytes, now, last_time_us, self._full_bytes]
        with redis_answers():
            return bool(await self._settle(keys=_keys(attempt_id), args=arguments))

    async def forget(self, attempt_id: UUID) -> None:
        """Drop everything of this attempt; its worker is then asked again from the last durable line."""
        with redis_answers():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(stream_key(attempt_id), state_key(attempt_id))
                pipe.zrem(DIRTY_KEY, stream_key(attempt_id))
                await pipe.execute()


def _keys(attempt_id: UUID) -> list[str]:
    return [stream_key(attempt_id), state_key(attempt_id), DIRTY_KEY]


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # The client's type covers every protocol version and decoding; ours answers bytes.
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", answer)
