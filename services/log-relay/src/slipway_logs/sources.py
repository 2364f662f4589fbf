"""What a log is the log of."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class LogSource:
    """A try of an execution; or, with `replica`, what a replica of an endpoint wrote on one day.

    The names are those of executions: `execution_id` is then the endpoint, `number` the day's ordinal.
    """

    attempt_id: UUID
    execution_id: UUID
    number: int
    replica: str | None = None
