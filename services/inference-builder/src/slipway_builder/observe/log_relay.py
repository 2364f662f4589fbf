"""Hands lines of replicas to the log service."""

from datetime import date
from typing import Final
from uuid import UUID

from slipway_kit.http import Neighbour
from slipway_schemas.logs import LogsAnswer

_SECONDS: Final = 30.0


class LogRelayClient:
    """The log service's internal API for logs of endpoints."""

    def __init__(self, relay: Neighbour) -> None:
        self._relay = relay

    async def send(self, endpoint_id: UUID, replica: str, day: date, frames: bytes = b"") -> LogsAnswer:
        """Send frames of a replica's day, or only ask what is there. Raises `Unavailable`."""
        path = f"/internal/v1/endpoints/{endpoint_id}/replicas/{replica}/log/{day.isoformat()}"
        async with self._relay.stream("POST", path, content=frames, timeout=_SECONDS) as answer:
            return LogsAnswer.model_validate_json(b"".join([piece async for piece in answer.content]))
