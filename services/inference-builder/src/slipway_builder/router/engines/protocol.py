"""What the control process needs of an engine."""

from typing import Protocol
from uuid import UUID

from slipway_builder.router.table import Difference


class EngineError(Exception):
    """The engine cannot be started or changed; the message says why and what to do."""


class Engine(Protocol):
    """Serves requests by the routing table that it was made with."""

    @property
    def name(self) -> str:
        """Which engine it is, for logs and metrics."""
        ...

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        ...

    async def start(self) -> None:
        """Serve by the table as it is now. Raises `EngineError`."""
        ...

    async def apply(self, difference: Difference) -> None:
        """Serve new requests by a difference that the table has taken over. Raises `EngineError`."""
        ...

    async def load(self, endpoint_id: UUID) -> int:
        """How many requests an endpoint that may be asleep has: open ones, or those that came in the last seconds.

        Raises `EngineError`.
        """
        ...

    async def close(self) -> None:
        """Stop serving."""
        ...
