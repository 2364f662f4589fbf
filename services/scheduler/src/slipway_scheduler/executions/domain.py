"""The state machine of an execution: `propose` is the only place that decides a status (design section 6)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from slipway_schemas.lifecycles import (
    END_REASONS,
    RESTARTS_AFTER_USER_CODE,
    RETRIES_BEFORE_USER_CODE,
    EndReason,
    ExecutionStatus,
    is_legal,
)

_S = ExecutionStatus
_NEVER_RESTARTED = frozenset({EndReason.UPLOAD_GIVEN_UP})


@dataclass(frozen=True)
class OpenAttempt:
    """The attempt that holds the execution's fencing token."""

    id: UUID
    number: int
    user_code_started: bool = False
    uploading: bool = False
    """Its command has ended; what is left is to bring the outputs to safety."""


@dataclass(frozen=True)
class Execution:
    """What the state machine knows of an execution."""

    id: UUID
    project_id: UUID
    status: ExecutionStatus
    attempt: OpenAttempt | None = None
    early_failures: int = 0
    """Attempts that failed by the platform's fault before the user's code started."""
    restarts: int = 0
    """Attempts that ended by the platform's fault after the user's code had started, and were run again."""
    may_restart: bool = False
    """`autorestart` of the step, or `on_lost: requeue` of the environment."""
    code_missing: bool = False
    stop_level: int = 0
    stop_reason: EndReason | None = None
    stop_message: str = ""


@dataclass(frozen=True)
class Enqueue:
    """Nothing blocks the execution any more."""


@dataclass(frozen=True)
class CodeUnavailable:
    """The commit's snapshot cannot be made."""

    message: str


@dataclass(frozen=True)
class Stop:
    """Somebody, or something, wants the execution to end."""

    hard: bool = False
    reason: EndReason = EndReason.USER
    message: str = ""


@dataclass(frozen=True)
class Taken:
    """A worker has taken the attempt."""

    attempt_id: UUID
    at: datetime


@dataclass(frozen=True)
class Totals:
    """How much of the attempt is kept: what lies beyond was written by a superseded attempt."""

    lines: int = 0
    outputs: int = 0
    metadata: int = 0


@dataclass(frozen=True)
class Ended:
    """The run of an attempt is over and everything of it is safe."""

    attempt_id: UUID
    code: int
    reason: EndReason
    message: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    totals: Totals = Totals()


@dataclass(frozen=True)
class GivenUp:
    """An attempt failed by something other than the user's code, or its worker is lost."""

    attempt_id: UUID
    reason: EndReason
    message: str
    retryable: bool
    evidence: Mapping[str, Any] = field(default_factory=dict)
    totals: Totals | None = None
    """None: nobody knows, the worker is gone."""


Input = Enqueue | CodeUnavailable | Stop | Taken | Ended | GivenUp


class AttemptFate(StrEnum):
    """What a transition does to the open attempt."""

    KEEP = "keep"
    END = "end"
    SUPERSEDE = "supersede"
    """Its token is void: what the worker still does of it is killed and not written."""


@dataclass(frozen=True)
class Transition:
    """What is to be written: the new status with its reason, and what becomes of the attempt."""

    before: ExecutionStatus
    after: ExecutionStatus
    message: str = ""
    attempt_message: str = ""
    """What happened to the attempt, where `message` says more than that."""
    reason: EndReason | None = None
    fate: AttemptFate = AttemptFate.KEEP
    at: datetime | None = None
    """When it happened, where a worker knows better than the clock of the database."""
    exit_code: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    totals: Totals | None = None
    stop_level: int = 0
    stop_reason: EndReason | None = None
    early_failures: int = 0
    restarts: int = 0

    @property
    def changes_status(self) -> bool:
        """False when only the stop level rises or an attempt is replaced before it was taken."""
        return self.before is not self.after

    @property
    def requeues(self) -> bool:
        """Whether the execution goes back into the queue for a new attempt."""
        return self.after is _S.QUEUED and (self.changes_status or self.fate is not AttemptFate.KEEP)


@dataclass(frozen=True)
class Refusal:
    """The input changes nothing; `message` says why."""

    code: str
    message: str


def propose(before: Execution, given: Input) -> Transition | Refusal:
    """Decide what an input does to an execution."""
    if before.status.final:
        return Refusal("final", f"The execution has ended already: {before.status.value}.")
    match given:
        case Stop():
            proposed: Transition | Refusal = _stop(before, given)
        case Enqueue():
            proposed = _enqueue(before)
        case CodeUnavailable():
            proposed = _code_unavailable(before, given)
        case Taken() | Ended() | GivenUp() if before.attempt is None or before.attempt.id != given.attempt_id:
            proposed = Refusal("superseded", "The attempt is not the execution's current one.")
        case Taken():
            proposed = _taken(before, given)
        case Ended():
            proposed = _ended(before, given)
        case GivenUp():
            proposed = _given_up(before, given)
    if isinstance(proposed, Transition) and proposed.changes_status and not is_legal(before.status, proposed.after):
        raise AssertionError(f"propose() made an illegal transition: {before.status} -> {proposed.after}")
    return proposed


def may_run_again(execution: Execution) -> bool:
    """Whether a lost attempt may be replaced at once, without waiting for its worker (design section 6)."""
    if execution.status not in {_S.QUEUED, _S.STARTED} or execution.attempt is None:
        return False
    if not execution.attempt.user_code_started:
        return execution.early_failures < RETRIES_BEFORE_USER_CODE
    return execution.may_restart and execution.restarts < RESTARTS_AFTER_USER_CODE


def _keep(before: Execution, after: ExecutionStatus, **changes: Any) -> Transition:
    kept: dict[str, Any] = {
        "stop_level": before.stop_level,
        "stop_reason": before.stop_reason,
        "early_failures": before.early_failures,
        "restarts": before.restarts,
    }
    return Transition(before.status, after, **(kept | changes))


def _stop(before: Execution, stop: Stop) -> Transition | Refusal:
    if before.status in {_S.CREATED, _S.QUEUED}:
        fate = AttemptFate.KEEP if before.attempt is None else AttemptFate.SUPERSEDE
        return _keep(before, _S.STOPPED, reason=stop.reason, message=stop.message, fate=fate, stop_level=1)
    level = 2 if stop.hard or before.status is _S.STOPPING else 1
    if before.status is _S.STOPPING and before.attempt is not None and before.attempt.uploading:
        # There is nothing left to kill: whoever stops it once more does not want to wait for the outputs.
        level = 3
    if before.status is _S.STOPPING and before.stop_level >= level:
        return Refusal("killing", "The execution is being killed already.")
    reason = before.stop_reason or stop.reason
    return _keep(before, _S.STOPPING, stop_level=level, stop_reason=reason, message=stop.message)


def _enqueue(before: Execution) -> Transition | Refusal:
    if before.status is not _S.CREATED:
        return Refusal("queued", "The execution has been queued already.")
    if before.code_missing:
        return Refusal("code_missing", "The snapshot of the commit's code is not made yet.")
    return _keep(before, _S.QUEUED)


def _code_unavailable(before: Execution, given: CodeUnavailable) -> Transition | Refusal:
    if before.status is not _S.CREATED:
        return Refusal("queued", "The execution has its code already.")
    return _keep(before, _S.CRASHED, reason=EndReason.CODE_UNAVAILABLE, message=given.message)


def _taken(before: Execution, given: Taken) -> Transition | Refusal:
    if before.status is not _S.QUEUED:
        return Refusal("started", "The attempt was taken already.")
    return _keep(before, _S.STARTED, at=given.at)


def _ended(before: Execution, given: Ended) -> Transition | Refusal:
    if before.status is _S.QUEUED:
        return Refusal("not_started", "The attempt was not taken yet.")
    facts: dict[str, Any] = {
        "fate": AttemptFate.END,
        "exit_code": given.code,
        "evidence": given.evidence,
        "totals": given.totals,
    }
    if before.status is _S.STOPPING:
        return _stopped(before, given.reason, given.message, facts)
    reason = given.reason
    if reason is EndReason.SUCCESS and given.code != 0:
        reason = EndReason.USER_CODE
    if _by_platform(reason) and may_run_again(before):
        return _again(before, reason, given.message, facts)
    return _keep(before, END_REASONS[reason].status, reason=reason, message=given.message, **facts)


def _given_up(before: Execution, given: GivenUp) -> Transition | Refusal:
    lost = given.totals is None
    facts: dict[str, Any] = {
        "fate": AttemptFate.SUPERSEDE if lost else AttemptFate.END,
        "evidence": given.evidence,
        "totals": given.totals,
    }
    if before.status is _S.STOPPING:
        if lost:
            return _keep(before, _S.CRASHED, reason=given.reason, message=given.message, **facts)
        return _stopped(before, given.reason, given.message, facts)
    reason = EndReason.INTERNAL if given.reason is EndReason.SUCCESS else given.reason
    final = END_REASONS[reason].status
    if given.retryable and _by_platform(reason) and may_run_again(before):
        return _again(before, reason, given.message, facts)
    if before.status is _S.QUEUED and not is_legal(_S.QUEUED, final):
        return Refusal("not_started", "The attempt was not taken yet.")
    return _keep(before, final, reason=reason, message=given.message, **facts)


def _stopped(before: Execution, reason: EndReason, message: str, facts: dict[str, Any]) -> Transition:
    if reason is EndReason.UPLOAD_GIVEN_UP:
        return _keep(before, _S.CRASHED, reason=reason, message=message, **facts)
    wanted = before.stop_reason or EndReason.USER
    return _keep(before, _S.STOPPED, reason=wanted, message=before.stop_message or message, **facts)


def _by_platform(reason: EndReason) -> bool:
    """Whether the platform failed, not the run: only then anything is run again."""
    return END_REASONS[reason].status is _S.CRASHED and reason not in _NEVER_RESTARTED


def _again(before: Execution, reason: EndReason, message: str, facts: dict[str, Any]) -> Transition:
    attempt = before.attempt
    if attempt is None:
        raise AssertionError("only what was tried can be run again")
    early, restarts = before.early_failures, before.restarts
    if attempt.user_code_started:
        restarts += 1
    else:
        early += 1
    left = RETRIES_BEFORE_USER_CODE - early
    if before.may_restart:
        left += RESTARTS_AFTER_USER_CODE - restarts
    number = attempt.number + 1
    summary = END_REASONS[reason].summary
    words = f"Run again: attempt {number} of at most {number + left}, because {summary[0].lower()}{summary[1:]}"
    if message and message != summary:
        words = f"{words} {message}"
    counts = {"early_failures": early, "restarts": restarts}
    return _keep(before, _S.QUEUED, reason=reason, message=words, attempt_message=message, **facts, **counts)
