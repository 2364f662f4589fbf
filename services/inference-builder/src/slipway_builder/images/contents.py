"""What is inside an endpoint's image, however it is built: code, files, metadata, the server (contract 4.4).

All functions here block; those that touch many files belong into a thread.
"""

import json
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Final

from slipway_builder.images.protocol import METADATA_FILE, REQUIREMENTS_FILES, BuildError
from slipway_runtime.code_archive import ArchiveError, archive_form, unpack
from slipway_schemas.base import JsonObject
from slipway_schemas.inference.versions import EndpointSpec

WSGI_SERVER: Final = "waitress"
"""The server that the platform brings for `wsgi`: one pure-Python package that needs no other."""

WSGI_THREADS: Final = 8
DEFAULT_WSGI_CALLABLE: Final = "application"

_ASSIGNMENTS: Final = re.compile(r"\s*(?:[A-Za-z_]\w*=[^\s;&|<>()\"'`$\\]*\s+)*")
_SHELL_WORDS: Final = """! [[ . : alias break case cd continue do done elif else esac eval exec exit export fi for
function hash if in local read readonly return select set shift source test then time times trap type ulimit umask
unalias unset until wait while { }"""
_NOT_A_PROGRAM: Final = frozenset(_SHELL_WORDS.split())


def unpack_code(archive: Path, target: Path) -> None:
    """Unpack the commit's files into `target`, which is made if it is not there.

    Raises `BuildError` for a damaged archive and for members that would leave the tree.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        unpack(archive, target, archive_form(archive))
    except ArchiveError as error:
        raise BuildError(f"{error}. Add the commit again, then build this version again.") from error


def requirements_file(root: Path) -> Path | None:
    """The file whose requirements are installed, or None. `root` holds the code."""
    for name in REQUIREMENTS_FILES:
        found = root / name
        if found.is_file():
            return found
    return None


def relative_file_path(path: str) -> PurePosixPath:
    """The path of a chosen file, checked by its text alone. Raises `BuildError`."""
    found = PurePosixPath(path)
    parts = found.parts
    if not parts or found.is_absolute() or path.endswith("/") or ".." in parts or not path.isprintable():
        raise BuildError(
            f"The file path {path!r} is not a relative path inside the code; correct it in valohai.yaml.",
            code="unsafe_file_path",
        )
    _refuse_own(path, found)
    return found


def safe_file_path(root: Path, path: str) -> Path:
    """Where a chosen file is put, as an absolute path below `root`, links of the code followed.

    Raises `BuildError` when it would leave the tree, or take the place of a directory or of the platform's own files.
    """
    base = root.resolve()
    found = base.joinpath(relative_file_path(path)).resolve()
    if not found.is_relative_to(base):
        raise BuildError(
            f"The file path {path!r} leads through a link out of the code; correct it in valohai.yaml.",
            code="unsafe_file_path",
        )
    _refuse_own(path, PurePosixPath(found.relative_to(base)))
    blocked = next((one for one in found.parents if one != base and one.is_file()), None)
    if found.is_dir() or blocked is not None:
        raise file_path_problem(path, None if blocked is None else PurePosixPath(blocked.relative_to(base)))
    return found


def file_path_problem(path: str, blocked: PurePosixPath | None) -> BuildError:
    """The refusal of a path that the code has as a directory, or below `blocked`, which it has as a file."""
    taken = "a directory" if blocked is None else f"below {blocked}, which is a file,"
    return BuildError(f"The file path {path!r} is {taken} in the code; take another one.", code="unsafe_file_path")


def _refuse_own(path: str, relative: PurePosixPath) -> None:
    if relative.parts[:1] in ((METADATA_FILE,), (".home",)):
        raise BuildError(f"The file path {path!r} is the platform's own; take another one.", code="unsafe_file_path")


def metadata_bytes(document: JsonObject) -> bytes:
    """The content of `valohai-metadata.json`: the same document gives the same bytes."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def write_metadata(root: Path, document: JsonObject) -> None:
    """Write `valohai-metadata.json` into `root`, read-only, in the place of whatever the code has under this name."""
    file = root / METADATA_FILE
    file.unlink(missing_ok=True)
    file.write_bytes(metadata_bytes(document))
    file.chmod(0o444)


def server_argv(spec: EndpointSpec) -> tuple[str, ...]:
    """The command that serves an endpoint, run in the work directory with HOME set.

    `server-command` goes through a shell, so that `~/.local/bin/uvicorn` is found; where the shell allows it, the
    server takes the shell's place and gets signals itself. For `wsgi`, `WSGI_SERVER` must be importable by `python3`.
    """
    if spec.wsgi is None:
        return ("/bin/sh", "-c", _replacing_the_shell(spec.server_command))
    module, _, callable_name = spec.wsgi.partition(":")
    return (
        "python3",
        "-m",
        WSGI_SERVER,
        f"--listen=0.0.0.0:{spec.port}",
        f"--threads={WSGI_THREADS}",
        f"{module}:{callable_name or DEFAULT_WSGI_CALLABLE}",
    )


def _replacing_the_shell(lines: tuple[str, ...]) -> str:
    """The script of all lines, with `exec` before the last command where that cannot change what it means."""
    text = "\n".join(lines).rstrip()
    before, newline, last = text.rpartition("\n")
    assignments = _ASSIGNMENTS.match(last)
    start = assignments.end() if assignments else 0
    if "<<" in text or "()" in text or before.endswith("\\") or not _is_one_program(before, last[start:]):
        return text
    return f"{before}{newline}{last[:start]}exec {last[start:]}"


def _is_one_program(before: str, command: str) -> bool:
    """Whether the line runs one program. `before` is the text above, where a quote or a block may be open."""
    try:
        shlex.split(before, comments=True)
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        words = list(lexer)
    except ValueError:
        return False
    if not words or words[0] in _NOT_A_PROGRAM or "(" in words[0]:
        return False
    return not any(set(word) <= set("();|&") for word in words if word)
