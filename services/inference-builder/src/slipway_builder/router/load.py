"""Requests of endpoints that may be asleep: what wakes them, and keeps them awake."""

from collections import Counter, deque
from collections.abc import Callable

RECENT_SECONDS = 5
"""For so long a request counts after it has come, answered or not: whoever asks every few seconds misses none."""
_MOST_COUNTED = 1000


class RequestLoad:
    """Counts requests on arrival, for an engine that has no counters of its own. `now` is a monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: Counter[str] = Counter()
        self._arrived: dict[str, deque[float]] = {}

    def arrived(self, endpoint_id: str) -> None:
        """A request has come."""
        self._open[endpoint_id] += 1
        self._arrived.setdefault(endpoint_id, deque(maxlen=_MOST_COUNTED)).append(self._now())

    def left(self, endpoint_id: str) -> None:
        """A request has its answer, or nobody waits for one any more."""
        self._open[endpoint_id] -= 1

    def requests(self, endpoint_id: str) -> int:
        """How many are open, or have come lately, whichever is more."""
        recent = self._arrived.get(endpoint_id, deque())
        while recent and recent[0] < self._now() - RECENT_SECONDS:
            recent.popleft()
        return max(self._open[endpoint_id], len(recent))
