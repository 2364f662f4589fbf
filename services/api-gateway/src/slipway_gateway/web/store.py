"""SQL of pages: what the scheduler publishes and no feature of the gateway reads.

Callers have checked that the person may see the execution or environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_TRANSITIONS = text(
    "SELECT t.before, t.after, t.reason, t.message, t.at, a.slug AS actor"
    " FROM scheduler_pub.transition_v1 t LEFT JOIN accounts a ON a.id = t.actor_id"
    " WHERE t.execution_id = :id ORDER BY t.position DESC LIMIT 100"
)
_WORKERS = text(
    "SELECT id, environment_id, hostname, runtime, capacity, free, state, last_seen_at, agent_version"
    " FROM scheduler_pub.worker_v1 WHERE environment_id = ANY(CAST(:ids AS uuid[])) ORDER BY hostname, id LIMIT 500"
)


@dataclass(frozen=True)
class Transition:
    """One change of status, with who caused it, if a person did."""

    before: str | None
    after: str
    reason: str | None
    message: str | None
    at: datetime
    actor: str | None


@dataclass(frozen=True)
class Worker:
    """A machine of an environment. `capacity` and `free` have slots, cpus, memory_bytes, gpus."""

    id: UUID
    environment_id: UUID
    hostname: str
    runtime: str
    capacity: dict[str, Any]
    free: dict[str, Any]
    state: str
    last_seen_at: datetime | None
    agent_version: str


class PageStore:
    """Reads in one unit of work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def transitions(self, execution_id: UUID) -> Sequence[Transition]:
        """Changes of status, newest first."""
        rows = await self._session.execute(_TRANSITIONS, {"id": execution_id})
        return [Transition(**row._mapping) for row in rows]

    async def workers(self, environment_ids: Sequence[UUID]) -> Sequence[Worker]:
        """Workers of these environments."""
        rows = await self._session.execute(_WORKERS, {"ids": list(environment_ids)})
        return [Worker(**row._mapping) for row in rows]
