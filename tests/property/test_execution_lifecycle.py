"""Whatever happens in whatever order: legal transitions only, one final status, a bounded number of tries."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slipway_scheduler.executions.domain import (
    AttemptFate,
    CodeUnavailable,
    Ended,
    Enqueue,
    Execution,
    GivenUp,
    Input,
    OpenAttempt,
    Refusal,
    Stop,
    Taken,
    Totals,
    Transition,
    propose,
)
from slipway_schemas.lifecycles import (
    END_REASONS,
    RESTARTS_AFTER_USER_CODE,
    RETRIES_BEFORE_USER_CODE,
    EndReason,
    ExecutionStatus,
    is_legal,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RIGHT = st.sampled_from([True, True, True, False])
"""Whether a worker speaks of the current attempt."""


class ExecutionLife(RuleBasedStateMachine):
    """Drives one execution through `propose` as the services do."""

    @initialize(code_missing=st.booleans(), may_restart=st.booleans(), queued=st.booleans())
    def create(self, code_missing: bool, may_restart: bool, queued: bool) -> None:
        status = ExecutionStatus.QUEUED if queued and not code_missing else ExecutionStatus.CREATED
        self.state = Execution(uuid4(), uuid4(), status, may_restart=may_restart, code_missing=code_missing)
        self.attempts = 0
        self.with_user_code = 0
        self.most_said = 1 + RETRIES_BEFORE_USER_CODE + (RESTARTS_AFTER_USER_CODE if may_restart else 0)
        self.finals: list[Transition] = []

    def put(self, given: Input) -> None:
        before = self.state
        proposed = propose(before, given)
        if isinstance(proposed, Refusal):
            return
        assert not before.status.final
        assert proposed.before is before.status
        if proposed.changes_status:
            assert is_legal(before.status, proposed.after)
        assert proposed.stop_level >= before.stop_level
        if proposed.requeues and before.status is not ExecutionStatus.CREATED:
            assert proposed.reason is not None
            assert END_REASONS[proposed.reason].status is ExecutionStatus.CRASHED, "a user's error was run again"
            assert proposed.message.startswith(f"Run again: attempt {self.attempts + 1} of at most ")
            most = int(proposed.message.split(" of at most ")[1].split(",")[0])
            assert self.attempts < most <= self.most_said
            self.most_said = most
        if proposed.after.final:
            self.finals.append(proposed)
            assert proposed.reason is not None
            assert END_REASONS[proposed.reason].status is proposed.after or before.stop_level > 0
            if before.attempt is not None:
                assert proposed.fate is not AttemptFate.KEEP
        self.state = replace(
            before,
            status=proposed.after,
            attempt=before.attempt if proposed.fate is AttemptFate.KEEP else None,
            early_failures=proposed.early_failures,
            restarts=proposed.restarts,
            stop_level=proposed.stop_level,
            stop_reason=proposed.stop_reason,
        )

    @precondition(lambda self: self.state.code_missing)
    @rule()
    def archive_code(self) -> None:
        self.state = replace(self.state, code_missing=False)
        self.put(Enqueue())

    @precondition(lambda self: self.state.status is ExecutionStatus.CREATED)
    @rule()
    def enqueue(self) -> None:
        self.put(Enqueue())

    @precondition(lambda self: self.state.code_missing)
    @rule()
    def code_unavailable(self) -> None:
        self.put(CodeUnavailable("the repository is gone"))

    @rule(hard=st.booleans())
    def stop(self, hard: bool) -> None:
        self.put(Stop(hard=hard))

    @precondition(lambda self: self.state.status is ExecutionStatus.QUEUED and self.state.attempt is None)
    @rule()
    def assign(self) -> None:
        self.attempts += 1
        self.state = replace(self.state, attempt=OpenAttempt(uuid4(), self.attempts))

    @precondition(lambda self: self.state.status is ExecutionStatus.QUEUED and self.state.attempt is None)
    @rule(user_code=st.booleans())
    def begin(self, user_code: bool) -> None:
        """What mostly happens, in one step: else few paths come as far as an end."""
        self.assign()
        self.take(right=True)
        if user_code:
            self.start_user_code()

    @precondition(lambda self: self.state.status is ExecutionStatus.QUEUED and self.state.attempt is not None)
    @rule(right=RIGHT)
    def take(self, right: bool) -> None:
        self.put(Taken(self.current(right), NOW))

    @precondition(lambda self: self.state.status is ExecutionStatus.STARTED)
    @rule()
    def start_user_code(self) -> None:
        assert self.state.attempt is not None
        if not self.state.attempt.user_code_started:
            self.with_user_code += 1
        self.state = replace(self.state, attempt=replace(self.state.attempt, user_code_started=True))

    @precondition(lambda self: self.state.attempt is not None)
    @rule(right=RIGHT, code=st.sampled_from([0, 1, 137]), reason=st.sampled_from(EndReason))
    def end(self, right: bool, code: int, reason: EndReason) -> None:
        self.put(Ended(self.current(right), code, reason))

    @precondition(lambda self: self.state.attempt is not None)
    @rule(right=RIGHT, reason=st.sampled_from(EndReason), retryable=st.booleans(), lost=st.booleans())
    def give_up(self, right: bool, reason: EndReason, retryable: bool, lost: bool) -> None:
        totals = None if lost else Totals()
        self.put(GivenUp(self.current(right), reason, "it failed", retryable, totals=totals))

    def current(self, right: bool) -> UUID:
        return self.state.attempt.id if right and self.state.attempt is not None else uuid4()

    @invariant()
    def at_most_one_final_transition(self) -> None:
        assert len(self.finals) <= 1
        assert self.state.status.final == bool(self.finals)

    @invariant()
    def tries_are_bounded(self) -> None:
        assert self.attempts - self.with_user_code <= 1 + RETRIES_BEFORE_USER_CODE
        assert self.with_user_code <= (1 + RESTARTS_AFTER_USER_CODE if self.state.may_restart else 1)
        assert self.attempts <= self.most_said

    @invariant()
    def attempts_belong_to_live_executions(self) -> None:
        if self.state.status in {ExecutionStatus.STARTED, ExecutionStatus.STOPPING}:
            assert self.state.attempt is not None
        if self.state.status.final or self.state.status is ExecutionStatus.CREATED:
            assert self.state.attempt is None


TestExecutionLife = ExecutionLife.TestCase
