"""The attempt behind a worker's request, as the scheduler publishes it."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.errors import Conflict, NotFound
from slipway_schemas.executions import ExecutionSpec
from slipway_schemas.tokens import AttemptClaims

_LOAD = text(
    "SELECT a.number, a.superseded, a.ended_at, a.execution_id, e.project_id, e.counter, e.creator_id, e.spec"
    " FROM scheduler_pub.attempt_v1 a JOIN scheduler_pub.execution_v1 e ON e.id = a.execution_id WHERE a.id = :id"
)


@dataclass(frozen=True)
class RunningAttempt:
    """One try of an execution, with what defines the run."""

    id: UUID
    number: int
    execution_id: UUID
    project_id: UUID
    counter: int
    creator_id: int
    ended: bool
    spec: ExecutionSpec


async def load_attempt(session: AsyncSession, claims: AttemptClaims) -> RunningAttempt:
    """The attempt of a checked token. Raises `NotFound`, and `Conflict` when another attempt has taken its place."""
    row = (await session.execute(_LOAD, {"id": claims.attempt_id})).one_or_none()
    if row is None or row.execution_id != claims.execution_id:
        raise NotFound("This attempt does not exist.")
    if row.superseded:
        raise Conflict(
            "Another attempt of this execution has taken over. Stop this one; nothing of it is taken any more.",
            code="superseded",
        )
    return RunningAttempt(
        id=claims.attempt_id,
        number=row.number,
        execution_id=row.execution_id,
        project_id=row.project_id,
        counter=row.counter,
        creator_id=row.creator_id,
        ended=row.ended_at is not None,
        spec=ExecutionSpec.model_validate(row.spec),
    )
