"""NOTIFY as a doorbell: it says "look now", never what. Rows are the truth; a lost ring costs one poll."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_db.database import CONNECT_TIMEOUT_SECONDS, Database, async_url
from slipway_kit.logging import get_logger
from slipway_kit.service import BackgroundTask

PING_SECONDS = 5.0


async def notify(session: AsyncSession, channel: str) -> None:
    """Ring `channel` when the transaction of `session` commits; once per batch, not per row.

    The payload is empty and Postgres merges equal rings of one transaction. A committing NOTIFY takes a lock
    over the whole database, so many small transactions that ring are slower than one that rings for all.
    """
    await session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})


class Doorbell:
    """Listens on one connection of its own, on which nothing else ever runs.

    A connection with a prepared but unexecuted statement gets no notifications at all, silently; therefore it is
    not shared, and a ping through NOTIFY every `ping_seconds` proves that rings arrive. When a ping is not heard the
    connection is replaced and everybody is rung, because rings may have been lost meanwhile.
    """

    def __init__(self, db: Database, *, ping_seconds: float = PING_SECONDS) -> None:
        self._url = async_url(db.url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._ping_seconds = ping_seconds
        self._ping_channel = f"slipway_ping_{uuid4().hex}"
        self._callbacks: dict[str, list[Callable[[], None]]] = {}
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._connected = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether rings arrive at present."""
        return self._connected.is_set()

    async def wait_connected(self, timeout: float) -> None:
        """Wait until all subscribed channels are listened to; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._connected.wait()

    def subscribe(self, channel: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` at each ring of `channel`, and after each reconnect; returns the way to stop it."""
        if channel not in self._callbacks:
            self._callbacks[channel] = []
            self._connected.clear()
            self._changed.set()
        callbacks = self._callbacks[channel]
        callbacks.append(callback)

        def unsubscribe() -> None:
            # The channel stays: a caller who waits again and again must not cause LISTEN and UNLISTEN each time.
            with contextlib.suppress(ValueError):
                callbacks.remove(callback)

        return unsubscribe

    async def wait(self, channel: str, timeout: float) -> bool:
        """Wait for the next ring of `channel`, at most `timeout` seconds; tells whether it rang.

        The first wait for a channel, like a reconnect, may end early: a ring may have been missed before.
        """
        rung = asyncio.Event()
        unsubscribe = self.subscribe(channel, rung.set)
        try:
            async with asyncio.timeout(timeout):
                await rung.wait()
        except TimeoutError:
            return False
        finally:
            unsubscribe()
        return True

    def background_task(self) -> BackgroundTask:
        """The task that the supervisor runs."""
        return BackgroundTask(name="doorbell", run=self.run)

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is replaced."""
        while True:
            try:
                async with self._connection() as connection:
                    await self._listen(connection)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                get_logger().warning("doorbell_lost", error=type(error).__name__)
            finally:
                self._connected.clear()
            await asyncio.sleep(min(1.0, self._ping_seconds))

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=self._ping_seconds,
            statement_cache_size=0,
            server_settings={"application_name": "slipway-doorbell"},
        )
        try:
            yield connection
        finally:
            connection.terminate()  # nothing is worth a farewell, and a dead peer could block one

    async def _listen(self, connection: Any) -> None:
        listening: set[str] = set()
        await connection.add_listener(self._ping_channel, self._on_ping)
        connection.add_termination_listener(lambda _: self._changed.set())
        while True:
            self._changed.clear()
            wanted = set(self._callbacks)
            for channel in wanted - listening:
                await connection.add_listener(channel, self._on_ring)
            fresh, listening = wanted - listening, wanted
            if not self._connected.is_set() and not self._changed.is_set():
                self._connected.set()
            for channel in fresh:
                self._ring(channel)  # what was committed before LISTEN took effect made no sound
            await self._ping(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ping_seconds):
                    await self._changed.wait()

    async def _ping(self, connection: Any) -> None:
        self._heard.clear()
        await connection.execute(f'NOTIFY "{self._ping_channel}"')  # simple query: prepares nothing
        async with asyncio.timeout(self._ping_seconds):
            await self._heard.wait()

    def _on_ping(self, *_: object) -> None:
        self._heard.set()

    def _on_ring(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._ring(channel)

    def _ring(self, channel: str) -> None:
        for callback in list(self._callbacks.get(channel, ())):
            callback()
