"""A minimal event loop: readable descriptors and timers, nothing else."""

import heapq
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class Timer:
    """A call that is due at a time of the monotonic clock."""

    due: float
    order: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Never call it."""
        self.cancelled = True


class Reactor:
    """Calls back when descriptors become readable, timers are due or children end. Single-threaded."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._child_ended: Callable[[int, int], None] | None = None
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    def watch_children(self, ended: Callable[[int, int], None]) -> None:
        """Reap every child and call `ended(pid, wait status)`. Takes over SIGCHLD of this process."""
        self._child_ended = ended
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self.add_reader(self._wake_read.fileno(), self._reap)

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `descriptor` is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def remove_reader(self, descriptor: int) -> None:
        """Stop watching a descriptor; unknown ones are fine."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay` seconds from now."""
        timer = Timer(time.monotonic() + delay, next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run until `done()` is true, which is looked at after each round."""
        while not done():
            self._run_due()
            if done():
                return
            timeout = max(0.0, self._timers[0].due - time.monotonic()) if self._timers else None
            for key, _events in self._selector.select(timeout):
                key.data()

    def _run_due(self) -> None:
        while self._timers and (self._timers[0].cancelled or self._timers[0].due <= time.monotonic()):
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()

    def _reap(self) -> None:
        try:
            while self._wake_read.recv(4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._child_ended is not None:
                self._child_ended(pid, status)
