"""Events that the scheduler publishes."""

from typing import ClassVar
from uuid import UUID

from slipway_schemas.events.base import Event
from slipway_schemas.lifecycles import EndReason, ExecutionStatus


class ExecutionStateChanged(Event):
    """An execution moved from one status to another."""

    name: ClassVar[str] = "scheduler.execution.state_changed"
    publisher: ClassVar[str] = "scheduler"
    consumers: ClassVar[tuple[str, ...]] = ("gateway", "logs")

    execution_id: UUID
    project_id: UUID
    before: ExecutionStatus | None
    after: ExecutionStatus
    reason: EndReason | None = None
    attempt_id: UUID | None = None

    def key(self) -> str:
        """The execution."""
        return str(self.execution_id)


class ExecutionDeleted(Event):
    """An execution was deleted by a user: its log is purged after the retention time."""

    name: ClassVar[str] = "scheduler.execution.deleted"
    publisher: ClassVar[str] = "scheduler"
    consumers: ClassVar[tuple[str, ...]] = ("logs",)

    execution_id: UUID
    project_id: UUID

    def key(self) -> str:
        """The execution."""
        return str(self.execution_id)
