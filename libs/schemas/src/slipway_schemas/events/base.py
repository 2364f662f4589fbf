"""What every event has."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from slipway_schemas.base import JsonObject, WireModel


class Event(WireModel):
    """Base of all events. Events of one key reach a consumer in the order in which they were committed."""

    name: ClassVar[str]
    publisher: ClassVar[str]
    consumers: ClassVar[tuple[str, ...]]

    def key(self) -> str:
        """The aggregate that this event is about."""
        raise NotImplementedError


class EventEnvelope(WireModel):
    """An event on its way: written with the change, delivered at least once, consumed once."""

    id: UUID
    name: str
    publisher: str
    position: int
    """Place in the publisher's commit order; grows without end."""
    key: str
    actor: int | None = None
    """Account id of the user who caused it; None for the platform itself."""
    occurred_at: datetime
    payload: JsonObject
