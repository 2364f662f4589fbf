"""Writing for the relay: what is said within one turn of the event loop goes out in one system call."""

import asyncio


class BatchedWriter:
    """Gathers bytes until the event loop's next turn; a head and the body that follows it leave together."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The open connection."""
        return self._transport if self._transport is not None and not self._transport.is_closing() else None

    def attach(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection to write to."""
        self._transport = transport  # type: ignore[assignment] # uvloop's transports are no subclass

    def write(self, data: bytes) -> None:
        """Send bytes soon, in order."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Send what waits now."""
        if self._waiting and self.transport is not None:
            self.transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def pause_reading(self, pause: bool) -> None:
        """Stop or go on reading from the connection."""
        if self.transport is not None:
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def close(self) -> None:
        """Close when everything has been sent."""
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()
