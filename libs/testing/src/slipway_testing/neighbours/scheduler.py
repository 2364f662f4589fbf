"""A scheduler that hands out what a test tells it to, and remembers what workers say."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway_kit.auth import AttemptSigner, new_secret_token
from slipway_kit.ids import new_id
from slipway_schemas.attempts import AttemptDocument
from slipway_schemas.lifecycles import EndReason
from slipway_schemas.tokens import AttemptClaims
from slipway_schemas.workers import (
    Assignment,
    AttemptReport,
    Exited,
    Fact,
    Failed,
    StopOrder,
    SyncAnswer,
    SyncRequest,
    WorkerRegister,
    WorkerRegistered,
)

_POLL_SECONDS = 0.01


class SchedulerNeighbour:
    """`register` and `sync` for one environment. Assignments are repeated until the worker lists the attempt."""

    def __init__(self, signer: AttemptSigner) -> None:
        self._signer = signer
        self._changed = asyncio.Event()
        self.group_token = new_secret_token()
        self.environment_id = new_id()
        self.workers: dict[str, tuple[UUID, str]] = {}
        """Worker id and token by machine id."""
        self.registrations: list[WorkerRegister] = []
        self.syncs: list[SyncRequest] = []
        self.assigned: dict[UUID, Assignment] = {}
        self.reports: dict[UUID, AttemptReport] = {}
        self.facts: list[Fact] = []
        self.stops: dict[UUID, StopOrder] = {}
        self.superseded: set[UUID] = set()
        self.answer_facts = True

    def assign(self, document: AttemptDocument) -> UUID:
        """Give an attempt to the worker."""
        claims = AttemptClaims(
            attempt_id=document.attempt_id,
            execution_id=document.execution_id,
            environment_id=document.environment_id,
            number=document.number,
        )
        token = self._signer.sign(claims)
        self.assigned[document.attempt_id] = Assignment(attempt_id=document.attempt_id, token=token, document=document)
        self._changed.set()
        return document.attempt_id

    def stop(self, attempt_id: UUID, level: int = 1, reason: EndReason = EndReason.USER) -> None:
        """Order an attempt to stop."""
        self.stops[attempt_id] = StopOrder(attempt_id=attempt_id, level=level, reason=reason)
        self._changed.set()

    def supersede(self, attempt_id: UUID) -> None:
        """Tell the worker that an attempt is no longer its own."""
        self.superseded.add(attempt_id)
        self._changed.set()

    def revoke_workers(self) -> None:
        """Refuse every worker token given so far."""
        self.workers = {machine: (worker, new_secret_token()) for machine, (worker, _) in self.workers.items()}
        self._changed.set()

    def facts_of(self, attempt_id: UUID, kind: str) -> list[Fact]:
        """Facts of one kind."""
        return [fact for fact in self.facts if fact.attempt_id == attempt_id and fact.kind == kind]

    async def ended(self, attempt_id: UUID, timeout: float = 60) -> Exited | Failed:
        """Wait for the fact that ends an attempt."""
        async with asyncio.timeout(timeout):
            while True:
                for fact in self.facts:
                    if fact.attempt_id == attempt_id and isinstance(fact, Exited | Failed):
                        return fact
                await asyncio.sleep(_POLL_SECONDS)

    async def until(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Wait until something that a test looks at is true."""
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(_POLL_SECONDS)

    async def register(self, request: Request) -> Response:
        """A worker joins."""
        if _bearer(request) != self.group_token:
            return _refused()
        wanted = WorkerRegister.model_validate_json(await request.body())
        self.registrations.append(wanted)
        worker_id, token = self.workers.setdefault(wanted.machine_id, (new_id(), new_secret_token()))
        registered = WorkerRegistered(
            worker_id=worker_id,
            worker_token=token,
            environment_id=self.environment_id,
            environment_slug="test",
        )
        return JSONResponse(registered.model_dump(mode="json"))

    async def sync(self, request: Request) -> Response:
        """A worker says what it has; answered at once when there is something to say."""
        if _bearer(request) not in {token for _, token in self.workers.values()}:
            return _refused()
        sync = SyncRequest.model_validate_json(await request.body())
        self.syncs.append(sync)
        self.reports |= {report.attempt_id: report for report in sync.attempts}
        done = self._take_facts(sync) if self.answer_facts else ()
        listed = {report.attempt_id for report in sync.attempts}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + sync.wait_seconds
        while True:
            self._changed.clear()
            answer = self._answer(sync, listed, done)
            left = deadline - loop.time()
            if answer != SyncAnswer() or left <= 0:
                return JSONResponse(answer.model_dump(mode="json"))
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue
            if _bearer(request) not in {token for _, token in self.workers.values()}:
                return _refused()

    def _take_facts(self, sync: SyncRequest) -> tuple[tuple[UUID, int], ...]:
        known = {(fact.attempt_id, fact.seq) for fact in self.facts}
        for fact in sync.facts:
            if (fact.attempt_id, fact.seq) not in known:
                self.facts.append(fact)
            if isinstance(fact, Exited | Failed):
                self.assigned.pop(fact.attempt_id, None)
        return tuple((fact.attempt_id, fact.seq) for fact in sync.facts)

    def _answer(self, sync: SyncRequest, listed: set[UUID], done: tuple[tuple[UUID, int], ...]) -> SyncAnswer:
        levels = {report.attempt_id: report.stop_level for report in sync.attempts}
        return SyncAnswer(
            assignments=tuple(one for key, one in self.assigned.items() if key not in listed),
            stops=tuple(one for key, one in self.stops.items() if key in listed and levels[key] < one.level),
            superseded=tuple(key for key in listed if key in self.superseded),
            facts_done=done,
        )


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _refused() -> Response:
    return JSONResponse({"title": "no", "status": 401, "detail": "refused", "code": "not_authenticated"}, 401)
