"""From how a run ended to why the execution ends."""

import errno
import os
from types import MappingProxyType
from typing import Final

from slipway_kit.errors import SlipwayError, Unavailable
from slipway_runtime.errors import ContainerError, ImageDenied, ImageMissing, RegistryUnreachable
from slipway_runtime.layout import ExitRecord
from slipway_schemas.lifecycles import END_REASONS, EndReason
from slipway_worker.attempts.findings import Findings
from slipway_worker.attempts.record import AttemptState, Ending
from slipway_worker.machine.disk import gib

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WITHOUT_CODE = frozenset({EndReason.INTERNAL, EndReason.DISK_FULL})
_KILLING_SIGNALS: Final = MappingProxyType(
    {4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 11: "SEGV", 15: "TERM", 24: "XCPU", 25: "XFSZ"}
)
"""Signals that end a process which did not ask for them, by their number on Linux."""
KILLED_CODE = 137
STOPPED_CODE = 130


class AttemptFailure(Exception):
    """The attempt cannot go on. `retryable`: another worker, or another time, may help."""

    def __init__(self, reason: EndReason, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


def ending_of_run(record: ExitRecord, state: AttemptState, findings: Findings, runtime: str) -> Ending:
    """Why the execution ends, by the shim's record and what was found. A stop wins over the exit code it caused."""
    reason, message = _reason(record, state, findings)
    return Ending(
        reason=reason,
        code=None if record.code is None and reason in _WITHOUT_CODE else _code(record),
        message=message,
        retryable=record.reason == "start_failed",
        evidence=findings.evidence(record, runtime),
        at=record.finished,
    )


def _reason(record: ExitRecord, state: AttemptState, findings: Findings) -> tuple[EndReason, str]:
    match record.reason:
        case "time_limit":
            return _summarised(EndReason.TIME_LIMIT)
        case "no_output":
            return _summarised(EndReason.NO_OUTPUT)
        case "stopped" | "killed":
            return _summarised(state.stop_reason)
        case "disk_full":
            return EndReason.DISK_FULL, "The run was ended because the worker's disk had no room for what it printed."
        case "start_failed":
            error = record.error or "The run could not be started."
            full = os.strerror(errno.ENOSPC) in error
            return (EndReason.DISK_FULL if full else EndReason.INTERNAL), error
    if record.code is None:
        return EndReason.INTERNAL, record.error or "Nobody saw the end of the run."
    if record.code == 0:
        return _summarised(EndReason.SUCCESS)
    if findings.killed_for_memory(record):
        return _memory(findings)
    if findings.disk_was_full() and findings.disk is not None:
        free = gib(findings.disk.free_bytes)
        return EndReason.DISK_FULL, f"The run failed for want of disk space: the worker's disk has {free} free."
    return EndReason.USER_CODE, _user_code(record, findings)


def _summarised(reason: EndReason) -> tuple[EndReason, str]:
    return reason, END_REASONS[reason].summary


def _code(record: ExitRecord) -> int:
    return record.code if record.code is not None else KILLED_CODE


def _memory(findings: Findings) -> tuple[EndReason, str]:
    if findings.machine_was_short():
        return _summarised(EndReason.HOST_OOM)
    limit = findings.memory_limit_bytes
    if limit is None:
        return _summarised(EndReason.CONTAINER_OOM)
    return EndReason.CONTAINER_OOM, f"The container used more memory than its limit of {gib(limit)} and was killed."


def _user_code(record: ExitRecord, findings: Findings) -> str:
    number = record.signal or (record.code or 0) - 128
    if number in _KILLING_SIGNALS:
        name = f"signal {number} (SIG{_KILLING_SIGNALS[number]})"
        return (
            f"The command was ended by {name}. Neither a stop nor a limit of the platform sent it: "
            "it came from the run itself, or from somebody on the worker."
        )
    usage = findings.usage
    if usage is not None and usage.processes_refused:
        return (
            f"{END_REASONS[EndReason.USER_CODE].summary} It had reached its limit of {usage.processes_limit} processes."
        )
    return END_REASONS[EndReason.USER_CODE].summary


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
