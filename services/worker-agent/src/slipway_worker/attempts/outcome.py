"""From how a run ended to why the execution ends."""

import errno

from slipway_kit.errors import SlipwayError, Unavailable
from slipway_runtime.errors import ContainerError, ImageDenied, ImageMissing, RegistryUnreachable
from slipway_runtime.layout import ExitRecord
from slipway_schemas.lifecycles import END_REASONS, EndReason
from slipway_worker.attempts.record import AttemptState, Ending

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
KILLED_CODE = 137
STOPPED_CODE = 130


class AttemptFailure(Exception):
    """The attempt cannot go on. `retryable`: another worker, or another time, may help."""

    def __init__(self, reason: EndReason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


def ending_of_run(record: ExitRecord, state: AttemptState) -> Ending:
    """Why the execution ends, by the shim's record. A stop wins over the exit code that it caused."""
    at = record.finished
    evidence: dict[str, object] = {"exit_code": record.code, "signal": record.signal}
    code = record.code if record.code is not None else KILLED_CODE
    match record.reason:
        case "time_limit":
            reason = EndReason.TIME_LIMIT
        case "no_output":
            reason = EndReason.NO_OUTPUT
        case "stopped" | "killed":
            reason = state.stop_reason
        case "start_failed":
            message = record.error or "The run could not be started."
            return Ending(reason=EndReason.INTERNAL, message=message, retryable=True, at=at)
        case None if record.code is None:
            message = record.error or "Nobody saw the end of the run."
            return Ending(reason=EndReason.INTERNAL, message=message, evidence=evidence, at=at)
        case None if record.oom:
            reason = EndReason.CONTAINER_OOM
        case None if record.code == 0:
            reason = EndReason.SUCCESS
        case _:
            reason = EndReason.USER_CODE
    return Ending(reason=reason, code=code, message=END_REASONS[reason].summary, evidence=evidence, at=at)


def failure_of(error: Exception) -> AttemptFailure:
    """What an error before the user's code means for the execution."""
    match error:
        case AttemptFailure():
            return error
        case ImageMissing():
            return AttemptFailure(EndReason.IMAGE_MISSING, str(error))
        case ImageDenied():
            return AttemptFailure(EndReason.IMAGE_DENIED, str(error))
        case RegistryUnreachable():
            return AttemptFailure(EndReason.REGISTRY_UNREACHABLE, str(error), retryable=True)
        case ContainerError():
            return AttemptFailure(EndReason.INTERNAL, str(error), retryable=True)
        case OSError() if error.errno in _DISK_FULL:
            return AttemptFailure(EndReason.DISK_FULL, f"The worker's disk is full: {error}", retryable=True)
        case Unavailable():
            return AttemptFailure(EndReason.STORE_UNREACHABLE, error.message, retryable=True)
        case SlipwayError():
            return AttemptFailure(EndReason.INTERNAL, error.message, retryable=True)
        case _:
            return AttemptFailure(EndReason.INTERNAL, f"{type(error).__name__}: {error}", retryable=True)
