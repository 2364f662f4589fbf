"""What a sync does: many workers' news applied in one transaction, and each worker's answer.

Locks are taken in one order everywhere: executions, then attempts, then leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from slipway_kit.auth import AttemptSigner
from slipway_kit.errors import Unauthorized
from slipway_scheduler.channels import DISPATCH
from slipway_scheduler.executions.domain import Ended, Execution, GivenUp, Input, Taken, Totals
from slipway_scheduler.executions.service import ExecutionService
from slipway_scheduler.executions.store import ExecutionStore
from slipway_scheduler.workers.documents import assignments
from slipway_scheduler.workers.store import FactMark, KnownAttempt, Lease, Worker, WorkerStore
from slipway_schemas.lifecycles import EndReason, ExecutionStatus
from slipway_schemas.workers import Accepted, Exited, Fact, Failed, StopOrder, SyncAnswer, SyncRequest, UserCodeStarted


@dataclass(frozen=True)
class Said:
    """One worker's sync: its token's hash and what it says."""

    token_hash: str
    request: SyncRequest


@dataclass(frozen=True)
class Heard:
    """A stored sync: who said it, and what there is to answer."""

    worker: Worker
    answer: SyncAnswer


@dataclass(frozen=True)
class _News:
    """The facts of one open attempt that are not stored yet, in their order."""

    attempt: KnownAttempt
    facts: Sequence[Fact]

    @property
    def first_at(self) -> datetime:
        taken = (fact.at for fact in self.facts if isinstance(fact, Accepted))
        return next(taken, self.facts[0].at)

    @property
    def end(self) -> Input | None:
        last = self.facts[-1]
        return _input(last) if isinstance(last, Exited | Failed) else None


class SyncService:
    """Works in the transaction of the session that it is given."""

    def __init__(self, session: AsyncSession, signer: AttemptSigner, lease_seconds: float) -> None:
        self._session = session
        self._store = WorkerStore(session)
        self._executions = ExecutionStore(session)
        self._lifecycle = ExecutionService(session)
        self._signer = signer
        self._lease_seconds = lease_seconds

    async def hear(self, batch: Sequence[Said]) -> list[Heard | Unauthorized]:
        """Store what the workers of a batch say, each at most once in it; answers in the order of the batch."""
        workers = await self._store.by_tokens([said.token_hash for said in batch])
        known = [(workers[said.token_hash], said.request) for said in batch if said.token_hash in workers]
        answers: dict[UUID, SyncAnswer] = {}
        if known:
            done = await self._facts(known)
            await self._store.phases([(worker.id, report) for worker, request in known for report in request.attempts])
            await self._store.seen(known)
            listed = [(report.attempt_id, worker.id) for worker, request in known for report in request.attempts]
            await self._store.renew(listed, self._lease_seconds)
            roomy = {worker.environment_id for worker, request in known if request.free.slots > 0}
            if roomy:
                await self._store.ring_if_queued(DISPATCH, roomy)
            answers = await self.answers(known)
            for worker_id, stored in done.items():
                answers[worker_id] = answers[worker_id].model_copy(update={"facts_done": tuple(stored)})
        return [
            Heard(workers[said.token_hash], answers[workers[said.token_hash].id])
            if said.token_hash in workers
            else Unauthorized("The worker token is not known. Register again with the environment's group token.")
            for said in batch
        ]

    async def _facts(self, known: Sequence[tuple[Worker, SyncRequest]]) -> dict[UUID, list[tuple[UUID, int]]]:
        attempts = await self._store.known(fact.attempt_id for _, request in known for fact in request.facts)
        leases = await self._store.leases((worker.id for worker, _ in known))
        news: list[_News] = []
        done: dict[UUID, list[tuple[UUID, int]]] = {}
        for worker, request in known:
            if request.facts:
                done[worker.id] = [(fact.attempt_id, fact.seq) for fact in request.facts]
                news += _fresh_news(worker, request, attempts)
        lost = _lost(known, leases)
        found_again = _found_again(known, leases)
        concerned = {one.attempt.execution_id for one in news}
        concerned |= {lease.execution_id for lease in (*lost, *found_again)}
        if not concerned:
            return done
        executions = await self._executions.lock(sorted(concerned))
        await self._store.clear_detail([lease.execution_id for lease in found_again])
        await self._store.mark([_mark(one) for one in news])
        executions = await self._take(news, executions)
        inputs: list[tuple[Execution, Input]] = [
            (executions[one.attempt.execution_id], one.end) for one in news if one.end is not None
        ]
        inputs += [(executions[lease.execution_id], _worker_lost(lease)) for lease in lost]
        await self._lifecycle.apply(inputs)
        return done

    async def _take(self, news: Sequence[_News], executions: dict[UUID, Execution]) -> dict[UUID, Execution]:
        """Mark executions as started, and return them all as they are after that."""
        queued = [one for one in news if executions[one.attempt.execution_id].status is ExecutionStatus.QUEUED]
        taken = [(executions[one.attempt.execution_id], Taken(one.attempt.id, one.first_at)) for one in queued]
        await self._lifecycle.apply(taken)
        if any(one.end is not None for one in news):
            return await self._executions.lock(sorted(executions))
        return executions

    async def answers(self, known: Sequence[tuple[Worker, SyncRequest]]) -> dict[UUID, SyncAnswer]:
        """Say to each worker what differs from what it said; reads only."""
        leases = await self._store.leases((worker.id for worker, _ in known))
        by_worker: dict[UUID, dict[UUID, Lease]] = {worker.id: {} for worker, _ in known}
        for lease in leases:
            by_worker[lease.worker_id][lease.attempt_id] = lease
        missing = [lease.attempt_id for lease in leases if not lease.listed]
        rows = await self._store.documents(missing)
        given = assignments(rows, self._signer)
        loose = {
            attempt_id
            for worker, request in known
            for attempt_id in _mentioned(request)
            if attempt_id not in by_worker[worker.id]
        }
        attempts = await self._store.known(loose)
        return {
            worker.id: SyncAnswer(
                assignments=tuple(given.get(worker.id, ())),
                stops=_stops(request, by_worker[worker.id]),
                superseded=_superseded(worker, request, by_worker[worker.id], attempts),
                missing=_missing(request, by_worker[worker.id]),
                drain=worker.drain_wanted and not request.draining,
            )
            for worker, request in known
        }


def has_news(answer: SyncAnswer) -> bool:
    """Whether an answer says anything, so that it must not be held back."""
    return bool(answer.assignments or answer.stops or answer.superseded or answer.facts_done or answer.drain)


def _fresh_news(worker: Worker, request: SyncRequest, attempts: dict[UUID, KnownAttempt]) -> list[_News]:
    fresh: dict[UUID, list[Fact]] = {}
    for fact in sorted(request.facts, key=lambda one: one.seq):
        attempt = attempts.get(fact.attempt_id)
        if attempt is None or attempt.worker_id != worker.id or attempt.superseded or attempt.ended:
            continue
        if fact.seq > attempt.last_seq:
            fresh.setdefault(fact.attempt_id, []).append(fact)
    return [_News(attempts[attempt_id], facts) for attempt_id, facts in fresh.items()]


def _mentioned(request: SyncRequest) -> set[UUID]:
    return {report.attempt_id for report in request.attempts} | {fact.attempt_id for fact in request.facts}


def _lost(known: Sequence[tuple[Worker, SyncRequest]], leases: Sequence[Lease]) -> list[Lease]:
    """Attempts that a worker says it has not got: its disk is gone, or another machine has its name."""
    lost = {worker.id: set(request.lost) - _mentioned(request) for worker, request in known}
    return [lease for lease in leases if lease.listed and lease.attempt_id in lost[lease.worker_id]]


def _missing(request: SyncRequest, leases: dict[UUID, Lease]) -> tuple[UUID, ...]:
    told = _mentioned(request) | set(request.lost)
    return tuple(sorted(lease.attempt_id for lease in leases.values() if lease.listed and lease.attempt_id not in told))


def _found_again(known: Sequence[tuple[Worker, SyncRequest]], leases: Sequence[Lease]) -> list[Lease]:
    named = {worker.id: {report.attempt_id for report in request.attempts} for worker, request in known}
    return [lease for lease in leases if lease.unreachable and lease.attempt_id in named[lease.worker_id]]


def _mark(news: _News) -> FactMark:
    code = next((fact.at for fact in news.facts if isinstance(fact, UserCodeStarted)), None)
    return FactMark(news.attempt.id, news.first_at, code, news.facts[-1].seq)


def _input(fact: Exited | Failed) -> Input:
    totals = Totals(fact.last_line, fact.outputs, fact.metadata_lines)
    if isinstance(fact, Exited):
        return Ended(fact.attempt_id, fact.code, fact.reason, fact.message, fact.evidence, totals)
    return GivenUp(fact.attempt_id, fact.reason, fact.message, fact.retryable, fact.evidence, totals)


def _worker_lost(lease: Lease) -> GivenUp:
    message = "The worker came back without this run: it was started anew, or its files were lost."
    evidence = {"worker_id": str(lease.worker_id), "named_before": True, "named_now": False}
    return GivenUp(lease.attempt_id, EndReason.WORKER_LOST, message, retryable=True, evidence=evidence)


def _stops(request: SyncRequest, leases: dict[UUID, Lease]) -> tuple[StopOrder, ...]:
    orders: list[StopOrder] = []
    for report in request.attempts:
        lease = leases.get(report.attempt_id)
        if lease is not None and lease.stop_level > report.stop_level:
            reason = EndReason(lease.stop_reason) if lease.stop_reason else EndReason.USER
            orders.append(StopOrder(attempt_id=lease.attempt_id, level=lease.stop_level, reason=reason))
    return tuple(orders)


def _superseded(
    worker: Worker, request: SyncRequest, leases: dict[UUID, Lease], attempts: dict[UUID, KnownAttempt]
) -> tuple[UUID, ...]:
    gone: list[UUID] = []
    for attempt_id in sorted(_mentioned(request)):
        if attempt_id in leases:
            continue
        attempt = attempts.get(attempt_id)
        if attempt is None or attempt.superseded or attempt.worker_id != worker.id:
            gone.append(attempt_id)
    return tuple(gone)
