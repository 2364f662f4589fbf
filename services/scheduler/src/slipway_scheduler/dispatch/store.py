"""SQL of dispatch: what waits, who has room, and the binding of one to the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.ids import new_id
from slipway_scheduler.dispatch.domain import Candidate, Demand, FullDisk, Placement, Room, WorkerRoom

SEEN_SECONDS = 35.0
"""A worker whose last sync is older takes no work: a held sync lasts 20 s at most, the rest is slack."""

# One dispatcher at a time: what it assigns must be counted before the next one looks at the same slots.
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('slipway scheduler dispatch', 0))")

# One statement, one snapshot: what a worker said is free, minus what was assigned and not yet named by it.
_ROOM = """
SELECT w.environment_id, w.id, w.slots, w.cpus, w.memory_bytes, w.gpus,
    s.free_slots - coalesce(t.slots, 0) AS free_slots, s.free_cpus - coalesce(t.cpus, 0) AS free_cpus,
    s.free_memory_bytes - coalesce(t.memory_bytes, 0) AS free_memory_bytes,
    s.free_gpus - coalesce(t.gpus, 0) AS free_gpus
FROM workers w JOIN worker_states s ON s.worker_id = w.id JOIN environments v ON v.id = w.environment_id
LEFT JOIN LATERAL (SELECT count(*) AS slots, sum(l.cpus) AS cpus, sum(l.memory_bytes) AS memory_bytes,
    sum(l.gpus) AS gpus FROM leases l WHERE l.worker_id = w.id AND NOT l.listed) t ON true
WHERE s.reachable AND NOT s.draining AND NOT s.disk_full AND NOT w.drain_wanted
    AND s.last_seen_at > now() - make_interval(secs => :seen)
"""
_WORKERS = text(
    _ROOM + " AND v.enabled AND v.deleted_at IS NULL"
    " AND EXISTS (SELECT FROM queue q WHERE q.environment_id = w.environment_id)"
)
_WORKERS_OF = text(_ROOM + " AND w.environment_id = :environment")

_FULL_DISKS = text("""
SELECT w.hostname, s.disk_free_bytes AS free_bytes, s.disk_total_bytes AS total_bytes
FROM workers w JOIN worker_states s ON s.worker_id = w.id
WHERE w.environment_id = :environment AND s.disk_full AND s.reachable
    AND s.last_seen_at > now() - make_interval(secs => :seen) ORDER BY w.hostname LIMIT 10
""")

# A loose index scan over the lanes (priority, owner), then the first rows of each: one owner's 50,000 cost nothing.
_CANDIDATES = text("""
WITH RECURSIVE lane AS (
    (SELECT priority, owner_id FROM queue WHERE environment_id = :environment
        ORDER BY priority DESC, owner_id DESC LIMIT 1)
    UNION ALL
    SELECT next.priority, next.owner_id FROM lane, LATERAL (SELECT q.priority, q.owner_id FROM queue q
        WHERE q.environment_id = :environment AND (q.priority, q.owner_id) < (lane.priority, lane.owner_id)
        ORDER BY q.priority DESC, q.owner_id DESC LIMIT 1) AS next
)
SELECT head.* FROM lane, LATERAL (SELECT q.execution_id, q.priority, q.owner_id, q.queued_at, q.cpus, q.memory_bytes,
    q.gpus FROM queue q WHERE q.environment_id = :environment AND q.priority = lane.priority
    AND q.owner_id = lane.owner_id
    AND q.cpus <= :cpus AND q.memory_bytes <= :memory AND q.gpus <= :gpus
    ORDER BY q.queued_at, q.execution_id LIMIT :per_lane) AS head
""")
_LOAD = text("""
SELECT owner_id, count(*) AS load FROM (
    SELECT owner_id FROM leases WHERE environment_id = :environment
    UNION ALL
    SELECT owner_id FROM attempts WHERE environment_id = :environment AND created_at > now() - interval '1 minute'
) AS recent GROUP BY owner_id
""")
_CLAIM = text("""
WITH held AS (SELECT id FROM executions WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'queued'
    ORDER BY id FOR UPDATE SKIP LOCKED)
DELETE FROM queue USING held WHERE queue.execution_id = held.id RETURNING queue.execution_id
""")
_ASSIGN = text("""
WITH given AS (SELECT * FROM unnest(CAST(:attempts AS uuid[]), CAST(:executions AS uuid[]), CAST(:workers AS uuid[]),
        CAST(:cpus AS double precision[]), CAST(:memory AS bigint[]), CAST(:gpus AS integer[]))
        AS g (attempt_id, execution_id, worker_id, cpus, memory_bytes, gpus)),
bound AS (UPDATE executions e SET attempt_id = g.attempt_id, attempt_count = e.attempt_count + 1, status_detail = '',
        updated_at = now()
    FROM given g WHERE e.id = g.execution_id
    RETURNING g.attempt_id, e.id AS execution_id, e.attempt_count, g.worker_id, e.environment_id, e.owner_id,
        g.cpus, g.memory_bytes, g.gpus),
tried AS (INSERT INTO attempts (id, execution_id, number, worker_id, environment_id, owner_id, phase, detail,
        superseded, last_seq)
    SELECT attempt_id, execution_id, attempt_count, worker_id, environment_id, owner_id, 'assigned', '', false, 0
    FROM bound RETURNING id)
INSERT INTO leases (attempt_id, execution_id, worker_id, environment_id, owner_id, expires_at, listed, stop_level,
    cpus, memory_bytes, gpus)
SELECT b.attempt_id, b.execution_id, b.worker_id, b.environment_id, b.owner_id,
    now() + make_interval(secs => :lease_seconds), false, 0, b.cpus, b.memory_bytes, b.gpus
FROM bound b JOIN tried t ON t.id = b.attempt_id
""")
_SCENE = text("""
SELECT e.status, e.code_missing, e.environment_name, e.environment_id, e.created_at, e.queued_at,
    v.enabled AND v.deleted_at IS NULL AS enabled, v.per_user_queue_quota AS quota, q.execution_id IS NULL AS assigned,
    coalesce(q.cpus, 0) AS cpus, coalesce(q.memory_bytes, 0) AS memory_bytes, coalesce(q.gpus, 0) AS gpus,
    (SELECT count(*) FROM executions o WHERE o.environment_id = e.environment_id AND o.creator_id = e.creator_id
        AND o.status IN ('queued', 'started', 'stopping')) AS unfinished,
    (SELECT count(*) + 1 FROM queue o WHERE o.environment_id = q.environment_id
        AND (o.priority > q.priority OR (o.priority = q.priority
        AND (o.queued_at, o.execution_id) < (q.queued_at, q.execution_id)))) AS position,
    (SELECT count(*) FROM queue o WHERE o.environment_id = e.environment_id) AS length
FROM executions e JOIN environments v ON v.id = e.environment_id LEFT JOIN queue q ON q.execution_id = e.id
WHERE e.id = :id
""")


@dataclass(frozen=True)
class EnvironmentRoom:
    """An environment in which something waits, with its workers."""

    environment_id: UUID
    workers: Sequence[WorkerRoom]


class DispatchStore:
    """Reads and writes of dispatch in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def take_turn(self) -> None:
        """Wait until no other replica dispatches; held until the transaction ends."""
        await self._session.execute(_TURN)

    async def environments(self) -> list[EnvironmentRoom]:
        """Return the enabled environments with a queue and their workers that take work."""
        rows = (await self._session.execute(_WORKERS, {"seen": SEEN_SECONDS})).mappings()
        found: dict[UUID, list[WorkerRoom]] = {}
        for row in rows:
            found.setdefault(row["environment_id"], []).append(_worker_room(row))
        return [EnvironmentRoom(environment_id, workers) for environment_id, workers in found.items()]

    async def workers_of(self, environment_id: UUID) -> list[WorkerRoom]:
        """Return the workers of an environment that take work."""
        rows = await self._session.execute(_WORKERS_OF, {"environment": environment_id, "seen": SEEN_SECONDS})
        return [_worker_room(row) for row in rows.mappings()]

    async def full_disks(self, environment_id: UUID) -> list[FullDisk]:
        """Return connected workers of an environment that take no work because their disk is full."""
        rows = await self._session.execute(_FULL_DISKS, {"environment": environment_id, "seen": SEEN_SECONDS})
        return [FullDisk(**row) for row in rows.mappings()]

    async def candidates(self, environment: EnvironmentRoom, per_lane: int) -> list[Candidate]:
        """Return the first rows of each (priority, owner) of a queue, without those that are too large for all."""
        totals = [worker.total for worker in environment.workers]
        parameters = {
            "environment": environment.environment_id,
            "per_lane": per_lane,
            "cpus": max(total.cpus for total in totals),
            "memory": max(total.memory_bytes for total in totals),
            "gpus": max(total.gpus for total in totals),
        }
        rows = (await self._session.execute(_CANDIDATES, parameters)).mappings()
        return [
            Candidate(row["execution_id"], row["priority"], row["owner_id"], row["queued_at"], _demand(row))
            for row in rows
        ]

    async def load(self, environment_id: UUID) -> dict[int, int]:
        """Return by owner how much runs plus how much was started within a minute."""
        rows = (await self._session.execute(_LOAD, {"environment": environment_id})).mappings()
        return {row["owner_id"]: row["load"] for row in rows}

    async def bind(self, placements: Sequence[Placement], lease_seconds: float) -> list[Placement]:
        """Give executions to workers with new attempts; returns those that nobody took or stopped meanwhile."""
        ids = [one.candidate.execution_id for one in placements]
        claimed = set((await self._session.scalars(_CLAIM, {"ids": ids})).all())
        bound = [one for one in placements if one.candidate.execution_id in claimed]
        if bound:
            await self._session.execute(
                _ASSIGN,
                {
                    "attempts": [new_id() for _ in bound],
                    "executions": [one.candidate.execution_id for one in bound],
                    "workers": [one.worker_id for one in bound],
                    "cpus": [one.candidate.demand.cpus for one in bound],
                    "memory": [one.candidate.demand.memory_bytes for one in bound],
                    "gpus": [one.candidate.demand.gpus for one in bound],
                    "lease_seconds": lease_seconds,
                },
            )
        return bound

    async def scene(self, execution_id: UUID) -> RowMapping | None:
        """Return what explains an execution's waiting."""
        return (await self._session.execute(_SCENE, {"id": execution_id})).mappings().first()


def _worker_room(row: RowMapping) -> WorkerRoom:
    return WorkerRoom(
        worker_id=row["id"],
        total=Room(row["slots"], row["cpus"], row["memory_bytes"], row["gpus"]),
        free=Room(
            int(row["free_slots"]), float(row["free_cpus"]), int(row["free_memory_bytes"]), int(row["free_gpus"])
        ),
    )


def _demand(row: RowMapping) -> Demand:
    return Demand(row["cpus"], row["memory_bytes"], row["gpus"])
