"""How far the outputs of an attempt have come and what they wait for, in words for people."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from slipway_kit.clock import Clock

_LONGEST_REASON: Final = 300
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class _Wait:
    since: datetime
    next_try_at: datetime
    what: str
    reason: str


class UploadProgress:
    """Counts outputs and bytes, and knows what cannot go on. `wake` is called when a wait begins or ends."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._waits: dict[str, _Wait] = {}
        self._left: dict[str, int] = {}
        self._uploaded = 0

    def left(self, sizes: dict[str, int], uploaded: int) -> None:
        """What is still to be uploaded after the run, by name, and how many outputs are uploaded already."""
        self._left = dict(sizes)
        self._uploaded = uploaded

    def uploaded(self, name: str) -> None:
        """An output is in the store."""
        self._left.pop(name, None)
        self._uploaded += 1

    def waits(self, source: str, what: str, reason: str, seconds: float) -> None:
        """Work on `source` (a file, or the registration) waits for `what` and is tried again after `seconds`."""
        now = self._clock.now()
        known = self._waits.get(source)
        since = known.since if known is not None else now
        self._waits[source] = _Wait(since, now + timedelta(seconds=seconds), what, reason)
        if known is None:
            self._wake()

    def goes_on(self, source: str) -> None:
        """What `source` waited for is there."""
        if self._waits.pop(source, None) is not None:
            self._wake()

    def sentence(self) -> str:
        """One line: what it waits for, since when, when it is tried next, and what is left; empty without news."""
        if not self._waits:
            return f"uploading outputs: {self._counts()}" if self._left else ""
        first = min(self._waits.values(), key=lambda one: one.since)
        next_try = min(one.next_try_at for one in self._waits.values())
        counts = f"; {self._counts()}" if self._left else ""
        return (
            f"waiting for {first.what} since {first.since:%H:%M:%S} UTC, next try at {next_try:%H:%M:%S} UTC"
            f"{counts}: {first.reason[:_LONGEST_REASON]}"
        )

    def _counts(self) -> str:
        return f"{self._uploaded} uploaded, {len(self._left)} left ({bytes_in_words(sum(self._left.values()))})"


def bytes_in_words(size: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"
