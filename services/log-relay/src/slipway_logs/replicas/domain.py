"""Names of the logs of replicas, and the place of a reader in all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID, uuid5

from slipway_kit.errors import Invalid
from slipway_logs.sources import LogSource

REPLICA_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$"


def replica_source(endpoint_id: UUID, replica: str, day: date) -> LogSource:
    """The log of a replica and day (UTC). A log per day is what lets old lines go while the replica still writes."""
    return LogSource(uuid5(endpoint_id, f"{day.isoformat()}/{replica}"), endpoint_id, day.toordinal(), replica)


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """A log that is there."""

    id: UUID
    day: int
    """The day's ordinal."""
    replica: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next line wanted of each log, by day and replica. Logs that it does not name are wanted from their start,
    unless their day is over."""

    places: Mapping[tuple[int, str], int]

    def __str__(self) -> str:
        return ",".join(f"{day}/{replica}/{line}" for (day, replica), line in sorted(self.places.items()))

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read one back. Raises `Invalid`."""
        places = {}
        try:
            for part in filter(None, text.split(",")):
                day, replica, line = part.split("/")
                places[int(day), replica] = int(line)
        except ValueError:
            raise Invalid("This is not a place that an endpoint's log has named.", field="from") from None
        return cls(places)

    @property
    def first_day(self) -> int:
        """Logs of earlier days have nothing new."""
        return max((day for day, _ in self.places), default=1) - 1

    def after(self, log: ReplicaLog, line: int) -> "Cursor":
        """The place behind this line."""
        kept = {place: at for place, at in self.places.items() if place[0] >= log.day - 1}
        return Cursor({**kept, (log.day, log.replica): line})
