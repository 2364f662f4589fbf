"""SQL of workers: registration, what they say, the leases of their attempts."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.ids import new_id
from slipway_schemas.workers import AttemptReport, SyncRequest, WorkerRegister


@dataclass(frozen=True)
class Worker:
    """A worker that has proven who it is."""

    id: UUID
    environment_id: UUID
    drain_wanted: bool


@dataclass(frozen=True)
class Lease:
    """An open attempt of a worker."""

    attempt_id: UUID
    execution_id: UUID
    worker_id: UUID
    listed: bool
    unreachable: bool
    stop_level: int
    stop_reason: str | None


@dataclass(frozen=True)
class KnownAttempt:
    """What is stored of an attempt that a worker speaks of."""

    id: UUID
    execution_id: UUID
    worker_id: UUID
    superseded: bool
    ended: bool
    last_seq: int


@dataclass(frozen=True)
class FactMark:
    """What the facts of one attempt say about when it was taken and when the user's code began."""

    attempt_id: UUID
    accepted_at: datetime | None
    user_code_at: datetime | None
    last_seq: int


_REGISTER = text("""
INSERT INTO workers (id, environment_id, machine_id, token_hash, hostname, runtime, runtime_version, agent_version,
    slots, cpus, memory_bytes, gpus, gpu_list, addresses, drain_wanted)
VALUES (:id, :environment, :machine_id, :token_hash, :hostname, :runtime, :runtime_version, :agent_version, :slots,
    :cpus, :memory_bytes, :gpus, CAST(:gpu_list AS jsonb), CAST(:addresses AS text[]), false)
ON CONFLICT (environment_id, machine_id) DO UPDATE SET token_hash = excluded.token_hash, hostname = excluded.hostname,
    runtime = excluded.runtime, runtime_version = excluded.runtime_version, agent_version = excluded.agent_version,
    slots = excluded.slots, cpus = excluded.cpus, memory_bytes = excluded.memory_bytes, gpus = excluded.gpus,
    gpu_list = excluded.gpu_list, addresses = excluded.addresses, drain_wanted = false
RETURNING id
""")
# Free is 0 until the first sync, which tells what the machine still runs from before.
_STATE = text("""
INSERT INTO worker_states (worker_id, last_seen_at, reachable, draining, free_slots, free_cpus, free_memory_bytes,
    free_gpus) VALUES (:id, now(), true, false, 0, 0, 0, 0)
ON CONFLICT (worker_id) DO UPDATE SET last_seen_at = now(), reachable = true, draining = false, free_slots = 0,
    refusal = '', refusal_message = ''
""")
_BY_TOKEN = text(
    "SELECT token_hash, id, environment_id, drain_wanted FROM workers WHERE token_hash = ANY(CAST(:hashes AS text[]))"
)
_SEEN = text("""
UPDATE worker_states s SET last_seen_at = now(), reachable = true, draining = g.draining, free_slots = g.slots,
    free_cpus = g.cpus, free_memory_bytes = g.memory_bytes, free_gpus = g.gpus, refusal = g.refusal,
    refusal_message = g.refusal_message, disk_free_bytes = g.disk_free, disk_total_bytes = g.disk_total,
    clock_skew_seconds = coalesce(extract(epoch FROM g.sent_at - clock_timestamp()), s.clock_skew_seconds)
FROM unnest(CAST(:ids AS uuid[]), CAST(:draining AS boolean[]), CAST(:slots AS integer[]),
    CAST(:cpus AS double precision[]), CAST(:memory AS bigint[]), CAST(:gpus AS integer[]),
    CAST(:refusals AS text[]), CAST(:messages AS text[]), CAST(:sent_at AS timestamptz[]),
    CAST(:disk_free AS bigint[]), CAST(:disk_total AS bigint[]))
    AS g (worker_id, draining, slots, cpus, memory_bytes, gpus, refusal, refusal_message, sent_at, disk_free,
        disk_total)
WHERE s.worker_id = g.worker_id
""")
_LEASES = text("""
SELECT attempt_id, execution_id, worker_id, listed, unreachable_since IS NOT NULL AS unreachable, stop_level,
    stop_reason
FROM leases WHERE worker_id = ANY(CAST(:workers AS uuid[])) ORDER BY attempt_id
""")
_RENEW = text("""
UPDATE leases l SET expires_at = now() + make_interval(secs => :lease_seconds), listed = true, unreachable_since = NULL
FROM unnest(CAST(:attempts AS uuid[]), CAST(:workers AS uuid[])) AS g (attempt_id, worker_id)
WHERE l.attempt_id = g.attempt_id AND l.worker_id = g.worker_id
""")
_PHASES = text("""
UPDATE attempts a SET phase = g.phase, detail = g.detail
FROM unnest(CAST(:ids AS uuid[]), CAST(:workers AS uuid[]), CAST(:phases AS text[]), CAST(:details AS text[]))
    AS g (id, worker_id, phase, detail)
WHERE a.id = g.id AND a.worker_id = g.worker_id AND a.ended_at IS NULL AND NOT a.superseded
    AND (a.phase <> g.phase OR a.detail <> g.detail)
RETURNING a.execution_id, a.detail
""")
_KNOWN = text("""
SELECT id, execution_id, worker_id, superseded, ended_at IS NOT NULL AS ended, last_seq
FROM attempts WHERE id = ANY(CAST(:ids AS uuid[]))
""")
_MARK = text("""
UPDATE attempts SET accepted_at = coalesce(accepted_at, least(now(), CAST(:accepted_at AS timestamptz))),
    user_code_at = coalesce(user_code_at,
        CASE WHEN CAST(:user_code_at AS timestamptz) > now() THEN now() ELSE :user_code_at END),
    last_seq = greatest(last_seq, :last_seq)
WHERE id = :attempt_id
""")
_CLEAR_DETAIL = text(
    "UPDATE executions SET status_detail = '', updated_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))"
)
_DETAIL = text(
    "UPDATE executions SET status_detail = :detail, updated_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))"
    " AND status IN ('started', 'stopping')"
)
_DOCUMENTS = text("""
SELECT a.id AS attempt_id, a.number, e.id AS execution_id, e.counter, e.created_at, e.queued_at, e.title, e.tags,
    e.project_id, e.project_name, e.creator_id, e.creator_name, e.creator_email, e.environment_id, e.environment_name,
    e.environment_slug, v.settings, e.spec, a.worker_id
FROM attempts a JOIN executions e ON e.id = a.execution_id JOIN environments v ON v.id = e.environment_id
WHERE a.id = ANY(CAST(:ids AS uuid[])) ORDER BY a.id
""")
_EXPIRED = text("""
SELECT l.attempt_id, l.execution_id, l.worker_id, l.unreachable_since IS NULL AS fresh,
    coalesce(l.unreachable_since, l.expires_at) + make_interval(secs =>
        coalesce(CAST(v.settings->>'lost_after_seconds' AS double precision), 900)) < now() AS lost,
    w.hostname, s.refusal = 'preempted' AS preempted,
    to_char(coalesce(l.unreachable_since, l.expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
FROM leases l JOIN environments v ON v.id = l.environment_id JOIN workers w ON w.id = l.worker_id
JOIN worker_states s ON s.worker_id = w.id
WHERE l.expires_at < now() ORDER BY l.execution_id LIMIT :limit
""")
_UNREACHABLE = text(
    "UPDATE leases SET unreachable_since = expires_at WHERE attempt_id = ANY(CAST(:ids AS uuid[]))"
    " AND expires_at < now() AND unreachable_since IS NULL"
)
_CLOCK = text("""
WITH before AS (SELECT judged_at FROM lease_clock WHERE id = 1 FOR UPDATE),
beat AS (UPDATE lease_clock SET judged_at = now() WHERE id = 1)
SELECT extract(epoch FROM now() - judged_at) FROM before
""")
_FORGIVE = text("""
UPDATE leases SET expires_at = greatest(expires_at, now() + make_interval(secs => :grace)),
    unreachable_since = least(now(), unreachable_since + make_interval(secs => :gap))
""")
_HIDE = text("UPDATE worker_states SET reachable = false WHERE worker_id = ANY(CAST(:ids AS uuid[]))")
_RING_IF_QUEUED = text(
    "SELECT pg_notify(:channel, '') WHERE EXISTS"
    " (SELECT FROM queue WHERE environment_id = ANY(CAST(:environments AS uuid[])))"
)
_DRAIN = text("UPDATE workers SET drain_wanted = true WHERE id = :id RETURNING id")


class WorkerStore:
    """Reads and writes of workers and leases in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def register(self, environment_id: UUID, machine: WorkerRegister, token_hash: str) -> UUID:
        """Add a machine, or renew its token when it registered before; returns the worker's id."""
        worker_id = await self._session.scalar(
            _REGISTER,
            {
                **machine.model_dump(include={"machine_id", "hostname", "runtime", "runtime_version", "agent_version"}),
                **machine.capacity.model_dump(),
                "id": new_id(),
                "environment": environment_id,
                "token_hash": token_hash,
                "gpu_list": json.dumps([gpu.model_dump() for gpu in machine.gpus]),
                "addresses": list(machine.addresses),
            },
        )
        await self._session.execute(_STATE, {"id": worker_id})
        return UUID(str(worker_id))

    async def by_tokens(self, hashes: Sequence[str]) -> dict[str, Worker]:
        """Return the workers of these tokens, by token hash."""
        rows = (await self._session.execute(_BY_TOKEN, {"hashes": list(hashes)})).mappings()
        return {row["token_hash"]: Worker(row["id"], row["environment_id"], row["drain_wanted"]) for row in rows}

    async def seen(self, said: Sequence[tuple[Worker, SyncRequest]]) -> None:
        """Store what workers said of themselves, in one statement."""
        free = [request.free for _, request in said]
        disks = [request.disk for _, request in said]
        await self._session.execute(
            _SEEN,
            {
                "ids": [worker.id for worker, _ in said],
                "draining": [request.draining for _, request in said],
                "slots": [one.slots for one in free],
                "cpus": [one.cpus for one in free],
                "memory": [one.memory_bytes for one in free],
                "gpus": [one.gpus for one in free],
                "refusals": [request.refusal or "" for _, request in said],
                "messages": [request.refusal_message for _, request in said],
                "sent_at": [request.at for _, request in said],
                "disk_free": [disk.free_bytes if disk else None for disk in disks],
                "disk_total": [disk.total_bytes if disk else None for disk in disks],
            },
        )

    async def leases(self, workers: Iterable[UUID]) -> list[Lease]:
        """Return the open attempts of these workers."""
        rows = (await self._session.execute(_LEASES, {"workers": list(workers)})).mappings()
        return [Lease(**row) for row in rows]

    async def renew(self, listed: Sequence[tuple[UUID, UUID]], lease_seconds: float) -> None:
        """Renew the leases of (attempt, worker) pairs, in one statement for all workers."""
        if listed:
            attempts, workers = zip(*listed, strict=True)
            parameters = {"attempts": list(attempts), "workers": list(workers), "lease_seconds": lease_seconds}
            await self._session.execute(_RENEW, parameters)

    async def phases(self, reports: Sequence[tuple[UUID, AttemptReport]]) -> None:
        """Store how far attempts have come, where that changed."""
        if reports:
            parameters = {
                "ids": [report.attempt_id for _, report in reports],
                "workers": [worker_id for worker_id, _ in reports],
                "phases": [report.phase.value for _, report in reports],
                "details": [report.detail for _, report in reports],
            }
            await self._session.execute(_PHASES, parameters)

    async def known(self, attempts: Iterable[UUID]) -> dict[UUID, KnownAttempt]:
        """Return what is stored of these attempts."""
        ids = list(attempts)
        if not ids:
            return {}
        rows = (await self._session.execute(_KNOWN, {"ids": ids})).mappings()
        return {row["id"]: KnownAttempt(**row) for row in rows}

    async def mark(self, marks: Sequence[FactMark]) -> None:
        """Store which facts are known by now."""
        if marks:
            await self._session.execute(_MARK, [vars(mark) for mark in marks])

    async def clear_detail(self, executions: Sequence[UUID]) -> None:
        """Take back 'unreachable' from executions whose worker is heard of again."""
        if executions:
            await self._session.execute(_CLEAR_DETAIL, {"ids": list(executions)})

    async def set_detail(self, executions: Sequence[UUID], detail: str) -> None:
        """Say something about running executions."""
        await self._session.execute(_DETAIL, {"ids": list(executions), "detail": detail})

    async def documents(self, attempts: Sequence[UUID]) -> Sequence[RowMapping]:
        """Return what attempt documents are made of."""
        if not attempts:
            return []
        return (await self._session.execute(_DOCUMENTS, {"ids": list(attempts)})).mappings().all()

    async def beat(self) -> float | None:
        """Note that leases are judged now; returns the seconds since they last were, None the first time."""
        gap: Any = await self._session.scalar(_CLOCK)
        if gap is None:
            await self._session.execute(
                text("INSERT INTO lease_clock (id, judged_at) VALUES (1, now()) ON CONFLICT DO NOTHING")
            )
            return None
        return float(gap)

    async def forgive(self, gap_seconds: float, grace_seconds: float) -> None:
        """Make an outage count for no lease, and give everybody the time to come back."""
        await self._session.execute(_FORGIVE, {"gap": gap_seconds, "grace": grace_seconds})

    async def expired(self, limit: int) -> Sequence[RowMapping]:
        """Return attempts whose lease is over by the database clock."""
        return (await self._session.execute(_EXPIRED, {"limit": limit})).mappings().all()

    async def mark_unreachable(self, attempts: Sequence[UUID]) -> None:
        """Note since when attempts are unreachable."""
        await self._session.execute(_UNREACHABLE, {"ids": list(attempts)})

    async def hide(self, workers: Iterable[UUID]) -> None:
        """Give these workers nothing more until they are heard of again."""
        await self._session.execute(_HIDE, {"ids": list(workers)})

    async def ring_if_queued(self, channel: str, environments: Iterable[UUID]) -> None:
        """Ring when something waits in one of these environments."""
        await self._session.execute(_RING_IF_QUEUED, {"channel": channel, "environments": list(environments)})

    async def drain(self, worker_id: UUID) -> bool:
        """Ask a worker to take no more; False when there is no such worker."""
        return await self._session.scalar(_DRAIN, {"id": worker_id}) is not None
