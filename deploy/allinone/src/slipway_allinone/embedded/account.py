"""Where the servers' files lie and whose they are: keys, short socket directories, the system user for root."""

import hashlib
import os
import pwd
import secrets
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SYSTEM_USER = "slipway"
SYSTEM_ROOT = Path("/var/lib/slipway")
SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path on Linux (sun_path is 108 with the final NUL)."""


@dataclass(frozen=True)
class Account:
    """A system user that a server runs as when Slipway itself runs as root."""

    name: str
    uid: int
    gid: int


def running_as_root() -> bool:
    """True when this process may become another user."""
    return os.geteuid() == 0


def system_account() -> tuple[Account, bool]:
    """The account that Postgres runs as under root, and whether it was created just now.

    Raises PermissionError or RuntimeError when the account is missing and cannot be made.
    """
    created = False
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = [
            "useradd", "--system", "--user-group", "--no-create-home",
            "--home-dir", str(SYSTEM_ROOT), "--shell", "/usr/sbin/nologin", SYSTEM_USER,
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
            created = True
        except (OSError, subprocess.SubprocessError) as error:
            try:
                pwd.getpwnam(SYSTEM_USER)  # a Slipway beside us was quicker
            except KeyError:
                raise RuntimeError(
                    f"Postgres refuses to run as root and the system user '{SYSTEM_USER}' cannot be created "
                    f"({getattr(error, 'stderr', None) or error}). "
                    f"Create it: useradd --system {SYSTEM_USER}, or start Slipway as an ordinary user."
                ) from error
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(SYSTEM_USER, entry.pw_uid, entry.pw_gid), created


def home_hash(home: Path) -> str:
    """Short stable name of a home directory."""
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]


def private_directory(path: Path, account: Account | None = None) -> Path:
    """Make `path` (0700), owned by `account` or by us, and refuse one that belongs to somebody else.

    Raises PermissionError when the path exists under another owner or is a link: another user of a
    shared machine may have put it there.
    """
    uid, gid = (account.uid, account.gid) if account else (os.geteuid(), os.getegid())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(path, uid, gid)
    found = path.lstat()
    if path.is_symlink() or not path.is_dir() or found.st_uid != uid:
        raise PermissionError(f"{path} must be a directory owned by user id {uid}. Remove it and start again.")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def socket_directory(server: str, home: Path, socket_name: str, account: Account | None = None) -> Path:
    """A directory for a unix socket whose full path stays below the system's limit.

    Raises ValueError when even the shortest place is too long.
    """
    run = Path("/run")
    base = run if running_as_root() and run.is_dir() else Path(tempfile.gettempdir())
    for candidate in (base, Path("/tmp")):  # noqa: S108 - made 0700 and checked for its owner
        directory = candidate / f"slipway-{server[:2]}-{os.geteuid()}-{home_hash(home)}"
        if len(os.fsencode(directory / socket_name)) <= SOCKET_PATH_LIMIT:
            return private_directory(directory, account)
    raise ValueError(f"No directory is short enough for the socket {socket_name}.")


def remove_if_empty(directory: Path | None) -> None:
    """Leave no socket directory of a server that has ended; one that holds something is left alone."""
    if directory is not None:
        with suppress(OSError):
            directory.rmdir()


def stored_password(home: Path, name: str) -> str:
    """The random password `<home>/keys/<name>.password` (0600), made at first use."""
    keys = private_directory(home / "keys")
    path = keys / f"{name}.password"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    password = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(password + "\n")
    return password
