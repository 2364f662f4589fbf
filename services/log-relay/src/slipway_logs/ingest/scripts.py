"""The hot tail's scripts: each is one atomic step in the server. Redis 7.0 and Valkey know all that they call.

Keys of all: the stream of frames, the hash with the attempt's state, the set of attempts that are not durable. The
set's score says when an attempt is due: 0 it has ended, 1 it is full, else since when it waits.
"""

# Takes frames while each follows on the one before. A frame whose lines are all there is passed over; one that has
# some of them ends the script, and the caller cuts it. Each frame gets a time above every earlier one.
# Answers {next, durable, frames, lines, bytes, index of the frame to cut or -1}; next is -1 when there is no state.
APPEND = """
local next = redis.call('HGET', KEYS[2], 'next')
if not next then return {-1, 0, 0, 0, 0, -1} end
next = tonumber(next)
local last = tonumber(redis.call('HGET', KEYS[2], 'time') or '0')
local frames, lines, bytes, ended, cut = 0, 0, 0, false, -1
for i = 4, #ARGV, 5 do
  local first, count, time = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if first > next then break end
  if first < next and first + count > next then
    cut = (i - 4) / 5
    break
  end
  if ARGV[i + 3] == '1' and first + count == next + (first == next and count or 0) then ended = true end
  if first == next and count > 0 then
    if time <= last then time = last + 1 end
    redis.call('XADD', KEYS[1], string.format('%.0f-0', first + 1), 't', string.format('%.0f', time), 'f', ARGV[i + 4])
    last = time + count - 1
    next = next + count
    frames = frames + 1
    lines = lines + count
    bytes = bytes + #ARGV[i + 4]
  end
end
if frames > 0 or ended then
  redis.call('HSET', KEYS[2], 'next', string.format('%.0f', next), 'time', string.format('%.0f', last))
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
  local pending = redis.call('HINCRBY', KEYS[2], 'pending', bytes)
  if ended then
    redis.call('ZADD', KEYS[3], 0, KEYS[1])
  elseif pending >= tonumber(ARGV[3]) then
    redis.call('ZADD', KEYS[3], 'LT', 1, KEYS[1])
  else
    redis.call('ZADD', KEYS[3], 'NX', ARGV[1], KEYS[1])
  end
end
return {next, tonumber(redis.call('HGET', KEYS[2], 'durable') or '0'), frames, lines, bytes, cut}
"""

# Starts the tail of an attempt that the server knows nothing of; whoever comes second changes nothing.
RESTORE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'next', ARGV[1], 'durable', ARGV[1], 'time', ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""

# Notes how far an attempt is durable and how many bytes were written. All of it: off the set. A tail that is behind
# the archive (it was started while a flush was under way) is dropped, and started again at the archive's end.
SETTLE = """
local known = tonumber(redis.call('HGET', KEYS[2], 'durable') or '0')
local durable = math.max(tonumber(ARGV[1]), known)
local next = tonumber(redis.call('HGET', KEYS[2], 'next') or '-1')
if next < durable then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('ZREM', KEYS[3], KEYS[1])
  return 1
end
redis.call('HSET', KEYS[2], 'durable', string.format('%.0f', durable))
if tonumber(redis.call('HGET', KEYS[2], 'time') or '0') < tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[2], 'time', ARGV[4])
end
if next == durable then
  redis.call('HSET', KEYS[2], 'pending', '0')
  redis.call('ZREM', KEYS[3], KEYS[1])
  return 1
end
-- 0 - x, not -x: the server refuses the text of minus zero
local pending = redis.call('HINCRBY', KEYS[2], 'pending', 0 - tonumber(ARGV[2]))
local score = redis.call('ZSCORE', KEYS[3], KEYS[1])
if score ~= '0' then
  redis.call('ZADD', KEYS[3], pending >= tonumber(ARGV[5]) and 1 or ARGV[3], KEYS[1])
end
return 0
"""
