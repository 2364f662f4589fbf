"""Unpacks the commit's archive. What is in it was written by users: every member is checked."""

import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import zstandard

from slipway_schemas.lifecycles import EndReason
from slipway_worker.attempts.outcome import AttemptFailure

_MAX_WINDOW: Final = 2**27


def unpack(archive: Path, target: Path, form: Literal["tar.zst", "tar.gz"]) -> int:
    """Unpack into `target`; the number of members. Blocking.

    Members and links that would leave the tree, devices and pipes are refused. Files become readable and writable
    for everybody, because the run's user is not the agent's; the attempt's directory around them is private.
    Raises `AttemptFailure` with reason `code_unavailable`.
    """
    count = 0
    try:
        with ExitStack() as stack:
            file = stack.enter_context(archive.open("rb"))
            if form == "tar.zst":
                reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(file)
                tar = stack.enter_context(tarfile.open(fileobj=stack.enter_context(reader), mode="r|"))
            else:
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|gz"))
            for member in tar:
                tar.extract(member, target, set_attrs=True, filter=_checked)
                count += 1
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError) as error:
        raise AttemptFailure(EndReason.CODE_UNAVAILABLE, f"The commit's archive cannot be unpacked: {error}") from error
    return count


def _checked(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    checked = tarfile.data_filter(member, target)
    if checked.isdir():
        return checked.replace(mode=0o777, deep=False)
    if checked.isfile():
        return checked.replace(mode=0o777 if member.mode & 0o111 else 0o666, deep=False)
    return checked
