"""The catalogue of events: every event with its publisher, key, fields and consumers.

An event without a consumer is not written (design section 5, rule 4). Names are in the past tense.
"""

from slipway_schemas.events.base import Event, EventEnvelope
from slipway_schemas.events.gateway import CommitArchived, ProjectDeleted
from slipway_schemas.events.scheduler import ExecutionDeleted, ExecutionStateChanged

CATALOGUE: dict[str, type[Event]] = {
    event.name: event for event in (ExecutionStateChanged, ExecutionDeleted, CommitArchived, ProjectDeleted)
}

__all__ = [
    "CATALOGUE",
    "CommitArchived",
    "Event",
    "EventEnvelope",
    "ExecutionDeleted",
    "ExecutionStateChanged",
    "ProjectDeleted",
]
