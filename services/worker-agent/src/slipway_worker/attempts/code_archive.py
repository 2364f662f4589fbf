"""Unpacks the commit's archive for a run."""

from pathlib import Path

from slipway_runtime import code_archive
from slipway_runtime.code_archive import ArchiveError, ArchiveForm
from slipway_schemas.lifecycles import EndReason
from slipway_worker.attempts.outcome import AttemptFailure


def unpack(archive: Path, target: Path, form: ArchiveForm) -> int:
    """Unpack into `target`; the number of members. Blocking.

    Files become readable and writable for everybody, because the run's user is not the agent's; the attempt's
    directory around them is private. Raises `AttemptFailure` with reason `code_unavailable`.
    """
    try:
        return code_archive.unpack(archive, target, form, shared=True)
    except ArchiveError as error:
        raise AttemptFailure(EndReason.CODE_UNAVAILABLE, str(error)) from error
