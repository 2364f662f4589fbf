"""Every state that an execution can come into, whatever happens in whatever order: all of them are looked at.

Legal transitions only, one final status, a bounded number of tries.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

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
EXECUTION, PROJECT, NOBODY = UUID(int=1), UUID(int=2), UUID(int=3)


@dataclass(frozen=True)
class Life:
    """An execution, and what was counted on the way to where it is."""

    state: Execution
    most_said: int
    """Tries that the last message promised at most."""
    attempts: int = 0
    with_user_code: int = 0

    def moves(self) -> Iterator["Life"]:
        """Everything that can happen next: to the run, and by what people, workers and loops say."""
        attempt = self.state.attempt
        if self.state.code_missing:
            yield replace(self, state=replace(self.state, code_missing=False)).given(Enqueue())
        if self.state.status is ExecutionStatus.QUEUED and attempt is None:
            number = self.attempts + 1
            opened = OpenAttempt(UUID(int=100 + number), number)
            yield replace(self, attempts=number, state=replace(self.state, attempt=opened))
        if attempt is not None and self.state.status in {ExecutionStatus.STARTED, ExecutionStatus.STOPPING}:
            if not attempt.user_code_started:
                yield replace(self._with(attempt, user_code_started=True), with_user_code=self.with_user_code + 1)
            if not attempt.uploading:
                yield self._with(attempt, uploading=True)
        for given in self._inputs():
            yield self.given(given)

    def _with(self, attempt: OpenAttempt, **changes: bool) -> "Life":
        return replace(self, state=replace(self.state, attempt=replace(attempt, **changes)))

    def _inputs(self) -> Iterator[Input]:
        yield Enqueue()
        yield CodeUnavailable("the repository is gone")
        yield Stop()
        yield Stop(hard=True)
        for attempt_id in {NOBODY, self.state.attempt.id if self.state.attempt else NOBODY}:
            yield Taken(attempt_id, NOW)
            for reason in EndReason:
                for code in (0, 1, 137):
                    yield Ended(attempt_id, code, reason)
                for retryable in (False, True):
                    for totals in (None, Totals()):
                        yield GivenUp(attempt_id, reason, "it failed", retryable, totals=totals)

    def given(self, given: Input) -> "Life":
        """What an input makes of it; a refusal changes nothing."""
        before = self.state
        proposed = propose(before, given)
        if isinstance(proposed, Refusal):
            return self
        most = self._check(proposed)
        state = replace(
            before,
            status=proposed.after,
            attempt=before.attempt if proposed.fate is AttemptFate.KEEP else None,
            early_failures=proposed.early_failures,
            restarts=proposed.restarts,
            stop_level=proposed.stop_level,
            stop_reason=proposed.stop_reason,
        )
        return replace(self, state=state, most_said=most)

    def _check(self, proposed: Transition) -> int:
        """Hold a transition to the rules; the number of tries that is promised from here on."""
        before = self.state
        assert not before.status.final, "an ended execution changed"
        assert proposed.before is before.status
        assert not proposed.changes_status or is_legal(before.status, proposed.after)
        assert proposed.stop_level >= before.stop_level
        if proposed.stop_level == 3:
            assert before.stop_level == 3 or (before.attempt and before.attempt.uploading), "outputs given up unasked"
        if proposed.after.final:
            assert proposed.reason is not None
            assert END_REASONS[proposed.reason].status is proposed.after or before.stop_level > 0
            assert before.attempt is None or proposed.fate is not AttemptFate.KEEP
        if not proposed.requeues or before.status is ExecutionStatus.CREATED:
            return self.most_said
        assert proposed.reason is not None
        assert END_REASONS[proposed.reason].status is ExecutionStatus.CRASHED, "a user's error was run again"
        assert proposed.message.startswith(f"Run again: attempt {self.attempts + 1} of at most ")
        most = int(proposed.message.split(" of at most ")[1].split(",")[0])
        assert self.attempts < most <= self.most_said
        return most

    def check(self) -> None:
        """What holds in every state."""
        state = self.state
        assert self.attempts - self.with_user_code <= 1 + RETRIES_BEFORE_USER_CODE
        assert self.with_user_code <= (1 + RESTARTS_AFTER_USER_CODE if state.may_restart else 1)
        assert self.attempts <= self.most_said
        if state.status in {ExecutionStatus.STARTED, ExecutionStatus.STOPPING}:
            assert state.attempt is not None
        if state.status.final or state.status is ExecutionStatus.CREATED:
            assert state.attempt is None


@pytest.mark.parametrize("may_restart", [False, True])
def test_every_state_that_can_be_reached_keeps_the_rules(may_restart: bool) -> None:
    most = 1 + RETRIES_BEFORE_USER_CODE + (RESTARTS_AFTER_USER_CODE if may_restart else 0)
    first = Execution(EXECUTION, PROJECT, ExecutionStatus.CREATED, may_restart=may_restart, code_missing=True)
    lives = {Life(first, most)}
    waiting = deque(lives)
    while waiting:
        for after in waiting.popleft().moves():
            if after not in lives:
                after.check()
                lives.add(after)
                waiting.append(after)
    assert {one.state.status for one in lives} == set(ExecutionStatus)
    assert max(one.attempts for one in lives) == most
    assert {one.state.stop_level for one in lives} == {0, 1, 2, 3}
