"""The rules of running again, for every reason: what is tried again, how often, and what is said of it."""

from dataclasses import replace
from uuid import uuid4

import pytest

from slipway_scheduler.executions.domain import (
    Ended,
    Execution,
    GivenUp,
    OpenAttempt,
    Totals,
    Transition,
    propose,
)
from slipway_schemas.lifecycles import END_REASONS, EndReason, ExecutionStatus

CRASHES = [one for one in EndReason if END_REASONS[one].status is ExecutionStatus.CRASHED]
NEVER = {EndReason.UPLOAD_GIVEN_UP}


def started(*, user_code: bool, may_restart: bool = False) -> Execution:
    attempt = OpenAttempt(uuid4(), 1, user_code_started=user_code)
    return Execution(uuid4(), uuid4(), ExecutionStatus.STARTED, attempt, may_restart=may_restart)


def after(execution: Execution, given: Ended | GivenUp) -> Transition:
    proposed = propose(execution, given)
    assert isinstance(proposed, Transition)
    return proposed


def inputs(execution: Execution, reason: EndReason) -> list[Ended | GivenUp]:
    assert execution.attempt is not None
    one = execution.attempt.id
    return [
        Ended(one, 1, reason),
        GivenUp(one, reason, "it failed", retryable=True, totals=Totals()),
        GivenUp(one, reason, "it failed", retryable=True),
    ]


@pytest.mark.parametrize("reason", [one for one in EndReason if one not in CRASHES and one is not EndReason.SUCCESS])
@pytest.mark.parametrize("user_code", [False, True])
def test_what_the_run_or_a_person_did_is_never_run_again(reason: EndReason, user_code: bool) -> None:
    execution = started(user_code=user_code, may_restart=True)
    for given in inputs(execution, reason):
        assert after(execution, given).after is END_REASONS[reason].status


@pytest.mark.parametrize("reason", CRASHES)
@pytest.mark.parametrize("may_restart", [False, True])
@pytest.mark.parametrize("user_code", [False, True])
def test_the_platforms_failures_are_run_again_where_that_is_allowed(
    reason: EndReason, may_restart: bool, user_code: bool
) -> None:
    execution = started(user_code=user_code, may_restart=may_restart)
    again = reason not in NEVER and (may_restart or not user_code)
    for given in inputs(execution, reason):
        assert after(execution, given).after is (ExecutionStatus.QUEUED if again else ExecutionStatus.CRASHED)


def test_what_no_other_try_can_help_is_not_tried_again() -> None:
    execution = started(user_code=False)
    assert execution.attempt is not None
    given = GivenUp(execution.attempt.id, EndReason.CODE_UNAVAILABLE, "gone", retryable=False, totals=Totals())
    assert after(execution, given).after is ExecutionStatus.CRASHED


@pytest.mark.parametrize(("may_restart", "most"), [(False, 4), (True, 7)])
def test_the_number_of_attempts_is_bounded_and_said(may_restart: bool, most: int) -> None:
    execution = started(user_code=False, may_restart=may_restart)
    for number in range(1, most):
        user_code = number > 3
        attempt = OpenAttempt(uuid4(), number, user_code_started=user_code)
        execution = replace(execution, status=ExecutionStatus.STARTED, attempt=attempt)
        change = after(execution, GivenUp(attempt.id, EndReason.WORKER_LOST, "w1 is silent.", retryable=True))
        assert change.message == (
            f"Run again: attempt {number + 1} of at most {most}, because the worker was not heard of again. "
            "w1 is silent."
        )
        execution = replace(execution, early_failures=change.early_failures, restarts=change.restarts)
    attempt = OpenAttempt(uuid4(), most, user_code_started=may_restart)
    execution = replace(execution, status=ExecutionStatus.STARTED, attempt=attempt)
    last = after(execution, GivenUp(attempt.id, EndReason.WORKER_LOST, "w1 is silent.", retryable=True))
    assert (last.after, last.message) == (ExecutionStatus.CRASHED, "w1 is silent.")
