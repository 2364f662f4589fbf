"""The input `_restart` of a run that was interrupted: the outputs that its earlier attempts had by then."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_schemas.executions import ExecutionSpec, InputSpec, KeepDirectories
from slipway_schemas.lifecycles import RESTART_INPUT

_INTERRUPTED = text(
    "SELECT EXISTS (SELECT FROM scheduler_pub.attempt_v1 WHERE execution_id = :execution AND number < :number"
    " AND ended_at IS NOT NULL AND user_code_at IS NOT NULL)"
)
# Of each attempt only as many outputs as the scheduler recorded; of a lost one, all that it registered.
# Of two outputs with one name the newest counts: a checkpoint that a later attempt wrote again.
_OUTPUTS = text("""
SELECT DISTINCT ON (kept.name) kept.id FROM (
    SELECT d.id, d.name, d.deleted_at, d.purged_at, a.number, a.total_outputs,
        row_number() OVER (PARTITION BY a.id ORDER BY d.id) AS place
    FROM scheduler_pub.attempt_v1 a JOIN datums d ON d.output_attempt_id = a.id
    WHERE a.execution_id = :execution AND a.number < :number AND a.ended_at IS NOT NULL AND a.user_code_at IS NOT NULL
) AS kept
WHERE (kept.total_outputs IS NULL OR kept.place <= kept.total_outputs)
    AND kept.deleted_at IS NULL AND kept.purged_at IS NULL
ORDER BY kept.name, kept.number DESC, kept.id DESC
""")


class RestartStore:
    """Reads what interrupted attempts left behind, in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def with_restart(self, spec: ExecutionSpec, execution_id: UUID, number: int) -> tuple[InputSpec, ...]:
        """Inputs of attempt `number`: those of the spec, and `_restart` when an earlier attempt was interrupted.

        A declared input of that name is replaced, so that a step may declare it and find it empty at first.
        """
        if number < 2:
            return spec.inputs
        attempts = {"execution": execution_id, "number": number}
        if not await self._session.scalar(_INTERRUPTED, attempts):
            return spec.inputs
        urls = tuple(f"datum://{one}" for one in await self._session.scalars(_OUTPUTS, attempts))
        restart = InputSpec(name=RESTART_INPUT, urls=urls, original_urls=urls, keep_directories=KeepDirectories.FULL)
        return (*(one for one in spec.inputs if one.name != RESTART_INPUT), restart)
