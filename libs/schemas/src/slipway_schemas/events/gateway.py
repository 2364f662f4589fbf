"""Events that the gateway publishes."""

from typing import ClassVar
from uuid import UUID

from slipway_schemas.events.base import Event


class CommitArchived(Event):
    """The snapshot of a commit is in the object store: executions that wait for it can be queued."""

    name: ClassVar[str] = "gateway.commit.archived"
    publisher: ClassVar[str] = "gateway"
    consumers: ClassVar[tuple[str, ...]] = ("scheduler",)

    project_id: UUID
    identifier: str
    archive_key: str | None
    """None when the snapshot cannot be made: waiting executions end as `code_unavailable`."""
    archive_sha256: str | None
    error: str = ""

    def key(self) -> str:
        """The commit within its project."""
        return f"{self.project_id}:{self.identifier}"


class ProjectDeleted(Event):
    """A project was deleted: whatever runs or is served in it is stopped."""

    name: ClassVar[str] = "gateway.project.deleted"
    publisher: ClassVar[str] = "gateway"
    consumers: ClassVar[tuple[str, ...]] = ("scheduler", "builder")

    project_id: UUID

    def key(self) -> str:
        """The project."""
        return str(self.project_id)
