"""The life of an execution as data: statuses, legal transitions, end reasons with their hints (design section 6)."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class ExecutionStatus(StrEnum):
    """Status of an execution, as clients see it (contract 3.8)."""

    CREATED = "created"
    QUEUED = "queued"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETE = "complete"
    ERROR = "error"
    CRASHED = "crashed"

    @property
    def final(self) -> bool:
        """Whether no transition leads out of this status."""
        return self in FINAL_STATUSES


_S = ExecutionStatus

FINAL_STATUSES: Final = frozenset({_S.STOPPED, _S.COMPLETE, _S.ERROR, _S.CRASHED})
INCOMPLETE_STATUSES: Final = frozenset({_S.CREATED, _S.QUEUED, _S.STARTED, _S.STOPPING})
"""What the meta-status `incomplete` of the compatible API means (contract 1.1)."""

EXECUTION_TRANSITIONS: Final = MappingProxyType(
    {
        _S.CREATED: frozenset({_S.QUEUED, _S.STOPPED, _S.CRASHED, _S.ERROR}),
        _S.QUEUED: frozenset({_S.STARTED, _S.STOPPED, _S.CRASHED}),
        _S.STARTED: frozenset({_S.QUEUED, _S.STOPPING, _S.STOPPED, _S.COMPLETE, _S.ERROR, _S.CRASHED}),
        _S.STOPPING: frozenset({_S.STOPPED, _S.CRASHED}),
        _S.STOPPED: frozenset[ExecutionStatus](),
        _S.COMPLETE: frozenset[ExecutionStatus](),
        _S.ERROR: frozenset[ExecutionStatus](),
        _S.CRASHED: frozenset[ExecutionStatus](),
    }
)
"""Legal transitions. `started -> stopped` is an end by a limit, which nobody had to ask for;
`created -> error` is an input or a commit that turned out not to exist before a worker was needed."""


class AttemptPhase(StrEnum):
    """How far an attempt has come. Status detail for people, never a status."""

    ASSIGNED = "assigned"
    PREPARING = "preparing"
    PULLING = "pulling"
    FETCHING = "fetching"
    RUNNING = "running"
    UPLOADING = "uploading"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why an execution reached its final status."""

    SUCCESS = "success"
    USER_CODE = "user_code"
    CONTAINER_OOM = "container_oom"
    IMAGE_MISSING = "image_missing"
    IMAGE_DENIED = "image_denied"
    INPUT_FAILED = "input_failed"
    USER = "user"
    TIME_LIMIT = "time_limit"
    NO_OUTPUT = "no_output"
    STOP_CONDITION = "stop_condition"
    PARENT_STOPPED = "parent_stopped"
    WORKER_LOST = "worker_lost"
    HOST_OOM = "host_oom"
    DISK_FULL = "disk_full"
    PREEMPTED = "preempted"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    STORE_UNREACHABLE = "store_unreachable"
    CODE_UNAVAILABLE = "code_unavailable"
    UPLOAD_GIVEN_UP = "upload_given_up"
    INTERNAL = "internal"


class EndReasonInfo(NamedTuple):
    """What a reason means: the final status it belongs to, what happened, and what to do about it."""

    status: ExecutionStatus
    summary: str
    hint: str


END_REASONS: Final = MappingProxyType(
    {
        EndReason.SUCCESS: EndReasonInfo(_S.COMPLETE, "The command ended with exit code 0.", ""),
        EndReason.USER_CODE: EndReasonInfo(
            _S.ERROR,
            "The last command ended with a non-zero exit code.",
            "Read the last lines of the log; run the step again once the code is fixed.",
        ),
        EndReason.CONTAINER_OOM: EndReasonInfo(
            _S.ERROR,
            "The container used more memory than its limit and was killed.",
            "Raise resources.memory.max of the step, choose a larger environment, or use smaller batches.",
        ),
        EndReason.IMAGE_MISSING: EndReasonInfo(
            _S.ERROR,
            "The image does not exist in its registry.",
            "Check the image's name and tag in valohai.yaml.",
        ),
        EndReason.IMAGE_DENIED: EndReasonInfo(
            _S.ERROR,
            "The registry refused to hand out the image.",
            "Add or renew the registry credentials of the project's owner.",
        ),
        EndReason.INPUT_FAILED: EndReasonInfo(
            _S.ERROR,
            "An input could not be fetched.",
            "The status lines name the input and the answer; check its address, access and checksum.",
        ),
        EndReason.USER: EndReasonInfo(_S.STOPPED, "Stopped by a user.", ""),
        EndReason.TIME_LIMIT: EndReasonInfo(
            _S.STOPPED,
            "The time limit of the step was reached.",
            "Raise time-limit of the step if it needs longer.",
        ),
        EndReason.NO_OUTPUT: EndReasonInfo(
            _S.STOPPED,
            "Nothing was printed for longer than the no-output timeout.",
            "Print progress now and then, or raise no-output-timeout of the step.",
        ),
        EndReason.STOP_CONDITION: EndReasonInfo(_S.STOPPED, "The stop condition of the step became true.", ""),
        EndReason.PARENT_STOPPED: EndReasonInfo(_S.STOPPED, "The task or pipeline it belongs to was stopped.", ""),
        EndReason.WORKER_LOST: EndReasonInfo(
            _S.CRASHED,
            "The worker was not heard of again.",
            "Run it again; set autorestart in the step to have that done by itself.",
        ),
        EndReason.HOST_OOM: EndReasonInfo(
            _S.CRASHED,
            "The worker ran out of memory and its kernel killed the run.",
            "Give the step a memory limit, or choose an environment with more memory.",
        ),
        EndReason.DISK_FULL: EndReasonInfo(
            _S.CRASHED,
            "The worker's disk is full.",
            "Free or enlarge the worker's disk; smaller inputs and outputs help too.",
        ),
        EndReason.PREEMPTED: EndReasonInfo(
            _S.CRASHED,
            "The cloud took the worker back.",
            "Set autorestart in the step, or use an on-demand environment.",
        ),
        EndReason.REGISTRY_UNREACHABLE: EndReasonInfo(
            _S.CRASHED,
            "The image registry did not answer.",
            "Check the registry and the worker's network, then run it again.",
        ),
        EndReason.STORE_UNREACHABLE: EndReasonInfo(
            _S.CRASHED,
            "The object store did not answer.",
            "Check the store and the worker's network, then run it again.",
        ),
        EndReason.CODE_UNAVAILABLE: EndReasonInfo(
            _S.CRASHED,
            "The commit's code could not be read from its repository.",
            "Check the repository's address and key with a fetch, then run it again.",
        ),
        EndReason.UPLOAD_GIVEN_UP: EndReasonInfo(
            _S.CRASHED,
            "The upload of the outputs was given up by a second stop.",
            "The outputs uploaded so far are kept.",
        ),
        EndReason.INTERNAL: EndReasonInfo(
            _S.CRASHED,
            "The platform failed.",
            "Run it again; tell the operator the execution's id if it happens again.",
        ),
    }
)
"""Every reason with its final status, summary and hint (table of design section 6)."""

RETRIES_BEFORE_USER_CODE: Final = 3
"""How often a platform failure before the user's code has started is tried again (design section 6, 'Run again?')."""

RESTARTS_AFTER_USER_CODE: Final = 3
"""How often a run whose user code had started is run again, where that is allowed at all."""

RESTART_INPUT: Final = "_restart"
"""The input of a run that was interrupted and is run again: the outputs that it had by then (contract 3.8)."""


def is_legal(before: ExecutionStatus, after: ExecutionStatus) -> bool:
    """Whether the table allows this transition."""
    return after in EXECUTION_TRANSITIONS[before]
