"""What the scheduler publishes of executions and attempts, as far as logs need it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """One try of an execution; `total_lines` is set when it ended, and nothing beyond it is shown."""

    id: UUID
    number: int
    ended: bool
    total_lines: int | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of status, to be shown as a status line."""

    at: datetime
    before: str | None
    after: str
    reason: str | None
    message: str


async def attempts_of(session: AsyncSession, execution_id: UUID) -> list[AttemptLog]:
    """The tries of an execution, first try first."""
    rows = await session.execute(
        text(
            "SELECT id, number, ended_at IS NOT NULL AS ended, total_lines"
            " FROM scheduler_pub.attempt_v1 WHERE execution_id = :id ORDER BY number"
        ),
        {"id": execution_id},
    )
    return [AttemptLog(*row) for row in rows]


async def transitions_of(session: AsyncSession, execution_id: UUID) -> list[Transition]:
    """The execution's changes of status, in order."""
    rows = await session.execute(
        text(
            "SELECT at, before, after, reason, message"
            " FROM scheduler_pub.transition_v1 WHERE execution_id = :id ORDER BY position"
        ),
        {"id": execution_id},
    )
    return [Transition(row.at, row.before, row.after, row.reason, row.message or "") for row in rows]


async def is_final(session: AsyncSession, execution_id: UUID) -> bool:
    """Whether the execution has its final status, or is not there any more."""
    status = await session.scalar(
        text("SELECT status FROM scheduler_pub.execution_v1 WHERE id = :id"), {"id": execution_id}
    )
    return status in {None, "complete", "error", "crashed", "stopped"}


async def is_deleted(session: AsyncSession, execution_id: UUID) -> bool:
    """Whether the execution was deleted, so that nothing of it is to be kept."""
    statement = text("SELECT 1 FROM scheduler_pub.execution_v1 WHERE id = :id AND deleted_at IS NULL")
    return await session.scalar(statement, {"id": execution_id}) is None
