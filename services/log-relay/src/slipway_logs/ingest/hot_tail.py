"""The hot tail of a running attempt in Valkey or Redis.

Two keys per attempt: a stream with one entry per frame, whose id is the frame's first line + 1 (ids start at 1), and a
hash with the next line wanted and the last time given. Everything here can be lost: what is not durable yet is sent
again by the worker, from the line that the service then asks for.
"""

from dataclasses import dataclass
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from slipway_logs.frames import Frame, unpack_frame
from slipway_schemas.logs import FrameFlag

_KEY_LIFE_SECONDS = 3 * 24 * 3600
"""Keys of an attempt that nobody wrote to for this long are dropped by the server itself."""

ENDED_LIFE_SECONDS = 600
DIRTY_KEY = "log-dirty"

# Appends frames while each is the next one wanted; refuses to guess when it knows nothing of the attempt. Gives each
# frame a time above every earlier one. Answers {next line, frames taken, first line that is not durable}; the first
# is -1 when it has no state.
_APPEND = """
local next = redis.call('HGET', KEYS[2], 'next')
if not next then return {-1, 0, 0} end
next = tonumber(next)
local last = tonumber(redis.call('HGET', KEYS[2], 'time') or '0')
local taken, bytes, ended = 0, 0, false
for i = 3, #ARGV, 5 do
  local first, lines, time = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if first ~= next then break end
  if ARGV[i + 3] == '1' then ended = true end
  if lines > 0 then
    if time <= last then time = last + 1 end
    redis.call('XADD', KEYS[1], string.format('%.0f-0', first + 1), 't', string.format('%.0f', time), 'f', ARGV[i + 4])
    bytes = bytes + #ARGV[i + 4]
    last = time + lines - 1
    next = next + lines
  end
  taken = taken + 1
end
if taken > 0 then
  redis.call('HSET', KEYS[2], 'next', string.format('%.0f', next), 'time', string.format('%.0f', last))
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
  redis.call('HINCRBY', KEYS[2], 'pending', bytes)
  if ended then redis.call('ZADD', KEYS[3], 0, KEYS[1]) else redis.call('ZADD', KEYS[3], 'NX', ARGV[1], KEYS[1]) end
end
return {next, taken, tonumber(redis.call('HGET', KEYS[2], 'durable') or '0')}
"""

# Takes an attempt off the list of dirty ones when all of it is durable, else starts its clock anew.
_SETTLE = """
local next = redis.call('HGET', KEYS[2], 'next')
if not next or tonumber(next) <= tonumber(ARGV[1]) then
  redis.call('ZREM', KEYS[3], KEYS[1])
  if next then redis.call('HSET', KEYS[2], 'pending', '0', 'durable', ARGV[1]) end
  return 1
end
redis.call('HSET', KEYS[2], 'durable', ARGV[1])
redis.call('HINCRBY', KEYS[2], 'pending', -tonumber(ARGV[2]))
if redis.call('ZSCORE', KEYS[3], KEYS[1]) ~= '0' then redis.call('ZADD', KEYS[3], ARGV[3], KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class Appended:
    """What the tail answered: the next line it wants, how many frames it took, and where durable lines end."""

    next: int
    taken: int
    durable: int


@dataclass(frozen=True, slots=True)
class DirtyAttempt:
    """An attempt with frames that are not durable."""

    attempt_id: UUID
    since: float
    """When the oldest of them came, in seconds since 1970; 0 when the attempt has ended."""
    pending_bytes: int

    @property
    def ended(self) -> bool:
        """Whether no more lines follow."""
        return self.since == 0


def stream_key(attempt_id: UUID) -> str:
    """Key of the attempt's stream of frames."""
    return f"log:{attempt_id}"


def state_key(attempt_id: UUID) -> str:
    """Key of the attempt's state."""
    return f"log:{attempt_id}:state"


class HotTail:
    """Append to, read and trim the tails of all attempts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append: AsyncScript = redis.register_script(_APPEND)
        self._settle: AsyncScript = redis.register_script(_SETTLE)

    async def append(self, attempt_id: UUID, frames: list[Frame], now: float) -> Appended | None:
        """Append the frames that follow; None when the tail knows nothing of the attempt (call `restore`)."""
        arguments: list[bytes | str | int | float] = [now, _KEY_LIFE_SECONDS]
        for frame in frames:
            header = frame.header
            ends = 1 if header.flags & FrameFlag.END else 0
            arguments += [header.first, header.lines, header.time_us, ends, frame.pack()]
        next_line, taken, durable = await self._append(
            keys=[stream_key(attempt_id), state_key(attempt_id), DIRTY_KEY], args=arguments
        )
        return None if next_line < 0 else Appended(int(next_line), int(taken), int(durable))

    async def restore(self, attempt_id: UUID, durable: int, last_time_us: int) -> None:
        """Start the tail at what is durable. Of two callers at once, the first wins; both mean the same."""
        key = state_key(attempt_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, "next", str(durable))
            pipe.hset(key, "durable", str(durable))
            pipe.hsetnx(key, "time", str(last_time_us))
            pipe.expire(key, _KEY_LIFE_SECONDS)
            await pipe.execute()

    async def next_line(self, attempt_id: UUID) -> int | None:
        """The next line that the tail wants; None when it knows nothing of the attempt."""
        value = await self._redis.hget(state_key(attempt_id), "next")
        return None if value is None else int(value)

    async def position(self, attempt_id: UUID) -> Appended | None:
        """What `append` would answer to nothing; None when the tail knows nothing of the attempt."""
        next_line, durable = await self._redis.hmget(state_key(attempt_id), ["next", "durable"])
        return None if next_line is None else Appended(int(next_line), 0, int(durable or 0))

    async def read(self, attempt_id: UUID, first: int, *, limit: int = 256) -> list[Frame]:
        """Frames from the one that holds line `first` on; the first of them may start earlier, or later if trimmed."""
        key = stream_key(attempt_id)
        before = _entries(await self._redis.xrevrange(key, max=f"{first + 1}-0", min="-", count=1))
        after = _entries(await self._redis.xrange(key, min=f"({first + 1}-0", max="+", count=limit))
        frames = [unpack_frame(fields[b"f"]).moved_to(int(fields[b"t"])) for _, fields in [*before, *after]]
        return [frame for frame in frames if frame.end > first]

    async def wait(self, attempt_id: UUID, after_line: int, block_ms: int) -> bool:
        """Wait until a frame at or after this line is there; False when the time is over."""
        found = await self._redis.xread({stream_key(attempt_id): f"{after_line}-0"}, count=1, block=block_ms)
        return bool(found)

    async def trim(self, attempt_id: UUID, durable: int, keep_frames: int) -> None:
        """Drop durable frames but the newest `keep_frames`, which late readers are served from."""
        newest = _entries(await self._redis.xrevrange(stream_key(attempt_id), count=keep_frames))
        if len(newest) < keep_frames:
            return
        oldest_kept = int(newest[-1][0].split(b"-")[0])
        await self._redis.xtrim(stream_key(attempt_id), minid=f"{min(oldest_kept, durable + 1)}-0", approximate=False)

    async def let_go(self, attempt_id: UUID) -> None:
        """The attempt ended and is durable: its keys may go soon."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.expire(stream_key(attempt_id), ENDED_LIFE_SECONDS)
            pipe.expire(state_key(attempt_id), ENDED_LIFE_SECONDS)
            await pipe.execute()

    async def dirty(self, limit: int) -> list[DirtyAttempt]:
        """Attempts with frames that are not durable; those that ended come first, then the longest waiting."""
        members = await self._redis.zrange(DIRTY_KEY, 0, limit - 1, withscores=True)
        scored = cast("list[tuple[bytes, float]]", members)
        attempts = [(UUID(member.decode().removeprefix("log:")), float(score)) for member, score in scored]
        async with self._redis.pipeline(transaction=False) as pipe:
            for attempt_id, _ in attempts:
                pipe.hget(state_key(attempt_id), "pending")
            pending = await pipe.execute()
        return [
            DirtyAttempt(attempt_id, score, int(size or 0))
            for (attempt_id, score), size in zip(attempts, pending, strict=True)
        ]

    async def settle(self, attempt_id: UUID, durable: int, written_bytes: int, now: float) -> bool:
        """Tell that lines below `durable` are in the log store; True when nothing else is waiting."""
        keys = [stream_key(attempt_id), state_key(attempt_id), DIRTY_KEY]
        return bool(await self._settle(keys=keys, args=[durable, written_bytes, now]))

    async def forget(self, attempt_id: UUID) -> None:
        """Drop everything of this attempt; its worker is then asked again from the last durable line."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(stream_key(attempt_id), state_key(attempt_id))
            pipe.zrem(DIRTY_KEY, stream_key(attempt_id))
            await pipe.execute()


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    # The client's type covers every protocol version and decoding; ours answers bytes.
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", answer)
