"""SQL of executions: creation, the state machine's reads and writes, the queue."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from slipway_scheduler.executions.domain import AttemptFate, Execution, OpenAttempt, Transition
from slipway_schemas.executions import ExecutionCreated, ExecutionDraft
from slipway_schemas.failures import fingerprint, is_failure, last_error_line
from slipway_schemas.lifecycles import EndReason, ExecutionStatus

_LOADED = """
SELECT e.id, e.project_id, e.status, e.attempt_id, e.attempt_count, e.early_failures, e.restarts, e.code_missing,
    e.stop_level, e.stop_reason, e.stop_message, a.id AS open_attempt_id,
    a.user_code_at IS NOT NULL AS user_code_started,
    a.phase = 'uploading' AS uploading,
    (e.autorestart OR v.settings->>'on_lost' = 'requeue') AS may_restart
FROM executions e
JOIN environments v ON v.id = e.environment_id
LEFT JOIN attempts a ON a.id = e.attempt_id AND a.ended_at IS NULL AND NOT a.superseded
"""

_LOCK = text("SELECT id FROM executions WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE")
_LOCK_FREE = text("SELECT id FROM executions WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE SKIP LOCKED")
_LOAD = text(_LOADED + "WHERE e.id = ANY(CAST(:ids AS uuid[])) ORDER BY e.id")

_COUNTER = text(
    "INSERT INTO project_counters (project_id, value) VALUES (:project, 1)"
    " ON CONFLICT (project_id) DO UPDATE SET value = project_counters.value + 1 RETURNING value"
)
_COUNTER_BACK = text("UPDATE project_counters SET value = value - 1 WHERE project_id = :project")
_EXISTING = text("SELECT id, counter, status, project_id FROM executions WHERE id = :id")
_INSERT = text("""
INSERT INTO executions (id, project_id, project_name, counter, status, environment_id, environment_slug,
    environment_name, owner_id, creator_id, creator_name, creator_email, title, tags, priority, commit_identifier,
    step, image, autorestart, code_missing, spec, attempt_count, early_failures, restarts, stop_level, stop_message,
    status_detail, queued_at)
SELECT :id, :project_id, :project_name, :counter, CAST(:status AS text), v.id, v.slug, v.name, :owner_id,
    :creator_id, :creator_name, :creator_email, :title, CAST(:tags AS text[]), :priority, :commit, :step, :image,
    :autorestart, :code_missing, CAST(:spec AS jsonb), 0, 0, 0, 0, '', '',
    CASE WHEN CAST(:status AS text) = 'queued' THEN now() END
FROM environments v WHERE v.id = :environment_id
ON CONFLICT (id) DO NOTHING RETURNING id
""")
_ENQUEUE = text("""
INSERT INTO queue (execution_id, environment_id, priority, owner_id, queued_at, cpus, memory_bytes, gpus, avoid)
SELECT e.id, e.environment_id, e.priority, e.owner_id, e.queued_at,
    coalesce(CAST(e.spec->'resources'->>'cpus' AS double precision), 0),
    coalesce(CAST(e.spec->'resources'->>'memory_bytes' AS bigint), 0),
    coalesce(CAST(e.spec->'resources'->>'gpus' AS integer), 0),
    ARRAY(SELECT a.worker_id FROM attempts a WHERE a.execution_id = e.id ORDER BY a.number)
FROM executions e WHERE e.id = ANY(CAST(:ids AS uuid[]))
ON CONFLICT (execution_id) DO NOTHING
""")
_DEQUEUE = text("DELETE FROM queue WHERE execution_id = ANY(CAST(:ids AS uuid[]))")

_SAVE = text("""
UPDATE executions SET status = CAST(:after AS text), stop_level = :stop_level, stop_reason = :stop_reason,
    stop_message = CASE WHEN CAST(:stop_message AS text) <> '' THEN :stop_message ELSE stop_message END,
    early_failures = :early_failures, restarts = :restarts, status_detail = '', updated_at = now(),
    queued_at = CASE WHEN :requeues THEN now() ELSE queued_at END,
    started_at = CASE WHEN CAST(:after AS text) = 'queued' THEN NULL
        ELSE coalesce(started_at, CAST(:started_at AS timestamptz)) END,
    finished_at = CASE WHEN :final THEN greatest(now(), started_at) END,
    end_reason = CASE WHEN :final THEN CAST(:reason AS text) END,
    end_message = CASE WHEN :final THEN CAST(:message AS text) END,
    end_evidence = CASE WHEN :final THEN CAST(:evidence AS jsonb) END,
    exit_code = CASE WHEN :final THEN CAST(:exit_code AS bigint) END
WHERE id = :id
""")
_RECORD = text("""
INSERT INTO transitions (execution_id, before, after, reason, message, actor_id, attempt_id, at)
VALUES (:id, :before, :after, :reason, :message, :actor, :attempt_id, clock_timestamp())
""")
_END_ATTEMPT = text("""
UPDATE attempts SET ended_at = now(), phase = 'ended', superseded = :superseded, exit_code = :exit_code,
    end_reason = :reason, end_message = :message, end_evidence = CAST(:evidence AS jsonb), fingerprint = :fingerprint,
    failure_line = :line, total_lines = :lines, total_outputs = :outputs, total_metadata = :metadata
WHERE id = :attempt_id
""")
_END_LEASE = text("DELETE FROM leases WHERE attempt_id = ANY(CAST(:ids AS uuid[])) RETURNING worker_id")
_RAISE_STOP = text(
    "UPDATE leases SET stop_level = :level, stop_reason = :reason WHERE attempt_id = :attempt_id RETURNING worker_id"
)


@dataclass(frozen=True)
class Change:
    """A transition of one execution with who caused it."""

    execution: Execution
    transition: Transition
    actor: int | None = None


def _execution(row: RowMapping) -> Execution:
    attempt = None
    if row["open_attempt_id"] is not None:
        attempt = OpenAttempt(
            row["attempt_id"], row["attempt_count"], bool(row["user_code_started"]), bool(row["uploading"])
        )
    return Execution(
        id=row["id"],
        project_id=row["project_id"],
        status=ExecutionStatus(row["status"]),
        attempt=attempt,
        early_failures=row["early_failures"],
        restarts=row["restarts"],
        may_restart=bool(row["may_restart"]),
        code_missing=row["code_missing"],
        stop_level=row["stop_level"],
        stop_reason=EndReason(row["stop_reason"]) if row["stop_reason"] else None,
        stop_message=row["stop_message"],
    )


class ExecutionStore:
    """Reads and writes executions in the caller's transaction. Locks are taken in the order of ids."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, ids: Sequence[UUID], *, skip_locked: bool = False) -> dict[UUID, Execution]:
        """Lock executions and return them; with `skip_locked` those that others hold are left out."""
        if not ids:
            return {}
        # Locking and reading are two statements: the second one's snapshot sees what the lock waited for.
        statement = _LOCK_FREE if skip_locked else _LOCK
        locked = (await self._session.scalars(statement, {"ids": list(ids)})).all()
        rows = (await self._session.execute(_LOAD, {"ids": list(locked)})).mappings()
        return {row["id"]: _execution(row) for row in rows}

    async def existing(self, execution_id: UUID) -> tuple[ExecutionCreated, UUID] | None:
        """Return the answer that the execution's creation had, and its project."""
        row = (await self._session.execute(_EXISTING, {"id": execution_id})).mappings().first()
        return None if row is None else (ExecutionCreated.model_validate(dict(row)), row["project_id"])

    async def insert(self, draft: ExecutionDraft, status: ExecutionStatus) -> int | None:
        """Insert an execution with the next counter of its project. None: its id or environment was in the way."""
        project = {"project": draft.project_id}
        counter = await self._session.scalar(_COUNTER, project)
        inserted = await self._session.scalar(
            _INSERT,
            {
                **draft.model_dump(
                    include={
                        "id",
                        "project_id",
                        "project_name",
                        "owner_id",
                        "creator_id",
                        "creator_name",
                        "creator_email",
                        "environment_id",
                        "title",
                        "priority",
                    }
                ),
                "tags": list(draft.tags),
                "counter": counter,
                "status": status.value,
                "commit": draft.spec.code.identifier,
                "step": draft.spec.step,
                "image": draft.spec.image,
                "autorestart": draft.spec.autorestart,
                "code_missing": draft.spec.code.archive_key is None,
                "spec": draft.spec.model_dump_json(),
            },
        )
        if inserted is None:
            await self._session.execute(_COUNTER_BACK, project)
            return None
        return int(counter or 0)

    async def enqueue(self, ids: Sequence[UUID]) -> None:
        """Put executions into the queue of their environment."""
        await self._session.execute(_ENQUEUE, {"ids": list(ids)})

    async def record(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write transitions: id, before, after, reason, message, actor, attempt_id."""
        await self._session.execute(_RECORD, list(rows))

    async def save(self, changes: Sequence[Change]) -> set[UUID]:
        """Write what the state machine decided; returns the workers that have to be told."""
        if not changes:
            return set()
        await self._session.execute(_SAVE, [_save_parameters(change) for change in changes])
        moved = [one for one in changes if one.transition.changes_status or one.transition.requeues]
        if moved:
            await self.record([_record_parameters(change) for change in moved])
        workers = await self._end_attempts(changes)
        workers |= await self._raise_stops(changes)
        left = [
            one.execution.id
            for one in changes
            if one.execution.status is ExecutionStatus.QUEUED and one.transition.changes_status
        ]
        if left:
            await self._session.execute(_DEQUEUE, {"ids": left})
        entering = [one.execution.id for one in changes if one.transition.requeues]
        if entering:
            await self.enqueue(entering)
        return workers

    async def _end_attempts(self, changes: Sequence[Change]) -> set[UUID]:
        ended = [one for one in changes if one.transition.fate is not AttemptFate.KEEP and one.execution.attempt]
        if not ended:
            return set()
        await self._session.execute(_END_ATTEMPT, [_attempt_parameters(change) for change in ended])
        ids = [change.execution.attempt.id for change in ended if change.execution.attempt]
        return set((await self._session.scalars(_END_LEASE, {"ids": ids})).all())

    async def _raise_stops(self, changes: Sequence[Change]) -> set[UUID]:
        workers: set[UUID] = set()
        for change in changes:
            attempt, wanted = change.execution.attempt, change.transition
            if attempt and wanted.after is ExecutionStatus.STOPPING and wanted.stop_level > change.execution.stop_level:
                parameters = {"level": wanted.stop_level, "reason": wanted.stop_reason, "attempt_id": attempt.id}
                workers |= set((await self._session.scalars(_RAISE_STOP, parameters)).all())
        return workers

    async def unfinished_of_project(self, project_id: UUID) -> Sequence[UUID]:
        """Ids of all executions of a project that have not ended."""
        statement = text(
            "SELECT id FROM executions WHERE project_id = :project"
            " AND status IN ('created', 'queued', 'started', 'stopping')"
        )
        return (await self._session.scalars(statement, {"project": project_id})).all()

    async def waiting_for_code(self, project_id: UUID, identifier: str) -> Sequence[UUID]:
        """Ids of the executions that wait for the snapshot of a commit."""
        statement = text(
            "SELECT id FROM executions WHERE status = 'created' AND code_missing"
            " AND project_id = :project AND commit_identifier = :identifier ORDER BY created_at, id"
        )
        return (await self._session.scalars(statement, {"project": project_id, "identifier": identifier})).all()

    async def set_code(self, ids: Sequence[UUID], key: str, sha256: str | None) -> None:
        """Fill in where the snapshot lies."""
        statement = text(
            "UPDATE executions SET code_missing = false, updated_at = now(), spec = jsonb_set(spec, '{code}',"
            " spec->'code' || CAST(:code AS jsonb)) WHERE id = ANY(CAST(:ids AS uuid[]))"
        )
        code = json.dumps({"archive_key": key, "archive_sha256": sha256})
        await self._session.execute(statement, {"ids": list(ids), "code": code})

    async def lock_quota(self, environment_id: UUID, creator_id: int) -> int:
        """Serialise decisions on one user's quota; returns how many queued and running executions that user has."""
        key = f"quota {environment_id} {creator_id}"
        await self._session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})
        statement = text(
            "SELECT count(*) FROM executions WHERE environment_id = :environment AND creator_id = :creator"
            " AND status IN ('queued', 'started', 'stopping')"
        )
        return int(await self._session.scalar(statement, {"environment": environment_id, "creator": creator_id}) or 0)

    async def over_quota(self, limit: int) -> Sequence[RowMapping]:
        """Executions that only a quota keeps from the queue, with their quota; oldest first."""
        statement = text(
            "SELECT e.id, e.environment_id, e.creator_id, v.per_user_queue_quota AS quota FROM executions e"
            " JOIN environments v ON v.id = e.environment_id WHERE e.status = 'created' AND NOT e.code_missing"
            " AND (v.per_user_queue_quota <= 0 OR v.per_user_queue_quota > (SELECT count(*) FROM executions o"
            " WHERE o.environment_id = e.environment_id AND o.creator_id = e.creator_id"
            " AND o.status IN ('queued', 'started', 'stopping'))) ORDER BY e.created_at, e.id LIMIT :limit"
        )
        return (await self._session.execute(statement, {"limit": limit})).mappings().all()

    async def patch(self, execution_id: UUID, values: dict[str, Any], add_tags: Sequence[str]) -> bool:
        """Change what people may change; False when there is no such execution."""
        statement = text(
            "UPDATE executions SET title = CASE WHEN :title_given THEN CAST(:title AS text) ELSE title END,"
            " tags = ARRAY(SELECT DISTINCT t FROM unnest(coalesce(CAST(:tags AS text[]), tags) ||"
            " CAST(:add_tags AS text[])) AS t ORDER BY t), priority = coalesce(:priority, priority),"
            " status_detail = coalesce(CAST(:detail AS text), status_detail), updated_at = now()"
            " WHERE id = :id AND deleted_at IS NULL RETURNING id"
        )
        title, tags = values.get("title"), values.get("tags")
        parameters = {
            "id": execution_id,
            "title_given": title is not None,
            "title": title,
            "tags": None if tags is None else list(tags),
            "add_tags": list(add_tags),
            "priority": values.get("priority"),
            "detail": values.get("status_detail"),
        }
        changed = await self._session.scalar(statement, parameters)
        if changed is not None and values.get("priority") is not None:
            requeue = text("UPDATE queue SET priority = :priority WHERE execution_id = :id")
            await self._session.execute(requeue, {"id": execution_id, "priority": values["priority"]})
        return changed is not None

    async def delete(self, execution_id: UUID) -> None:
        """Mark an execution as deleted."""
        statement = text("UPDATE executions SET deleted_at = now(), updated_at = now() WHERE id = :id")
        await self._session.execute(statement, {"id": execution_id})

    async def is_deleted(self, execution_id: UUID) -> bool:
        """Whether the execution was deleted before."""
        statement = text("SELECT deleted_at IS NOT NULL FROM executions WHERE id = :id")
        return bool(await self._session.scalar(statement, {"id": execution_id}))


def _started_at(change: Change) -> datetime | None:
    started = change.transition.after is ExecutionStatus.STARTED and change.transition.changes_status
    return change.transition.at if started else None


def _save_parameters(change: Change) -> dict[str, Any]:
    wanted, was = change.transition, change.execution
    return {
        "id": was.id,
        "after": wanted.after.value,
        "stop_level": wanted.stop_level,
        "stop_reason": wanted.stop_reason.value if wanted.stop_reason else None,
        "stop_message": wanted.message if wanted.stop_level > was.stop_level else "",
        "early_failures": wanted.early_failures,
        "restarts": wanted.restarts,
        "requeues": wanted.requeues,
        "started_at": _started_at(change),
        "final": wanted.after.final,
        "reason": wanted.reason.value if wanted.reason else None,
        "message": wanted.message,
        "evidence": json.dumps(dict(wanted.evidence)),
        "exit_code": wanted.exit_code,
    }


def _record_parameters(change: Change) -> dict[str, Any]:
    wanted, attempt = change.transition, change.execution.attempt
    reason = wanted.reason or (wanted.stop_reason if wanted.after is ExecutionStatus.STOPPING else None)
    return {
        "id": change.execution.id,
        "before": wanted.before.value,
        "after": wanted.after.value,
        "reason": reason.value if reason else None,
        "message": wanted.message,
        "actor": change.actor,
        "attempt_id": attempt.id if attempt else None,
    }


def _attempt_parameters(change: Change) -> dict[str, Any]:
    wanted, attempt = change.transition, change.execution.attempt
    failed = wanted.reason is not None and is_failure(wanted.reason)
    message = wanted.attempt_message or wanted.message
    line = last_error_line(wanted.evidence.get("last_lines", ())) or message
    return {
        "attempt_id": attempt.id if attempt else None,
        "message": message,
        "evidence": json.dumps(dict(wanted.evidence)),
        "fingerprint": fingerprint(wanted.reason, wanted.exit_code, line) if failed and wanted.reason else None,
        "line": line if failed else None,
        "superseded": wanted.fate is AttemptFate.SUPERSEDE,
        "exit_code": wanted.exit_code,
        "reason": wanted.reason.value if wanted.reason else None,
        "lines": wanted.totals.lines if wanted.totals else None,
        "outputs": wanted.totals.outputs if wanted.totals else None,
        "metadata": wanted.totals.metadata if wanted.totals else None,
    }
