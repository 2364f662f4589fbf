"""HAProxy, started with the table in its map files and changed through its runtime socket."""

import asyncio
import contextlib
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from slipway_builder.router.engines.child import lesser_account, start_child
from slipway_builder.router.engines.haproxy_admin import ask, run_commands
from slipway_builder.router.engines.haproxy_config import LOAD, SOCKETS, Places, render
from slipway_builder.router.engines.haproxy_maps import MAPS, commands, map_files
from slipway_builder.router.engines.protocol import EngineError
from slipway_builder.router.settings import RouterSettings
from slipway_builder.router.table import Difference, RoutingTable
from slipway_kit.logging import get_logger

_LOG = get_logger()
START_SECONDS = 10.0
_POLL_SECONDS = 0.01
_STOP_SECONDS = 5.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_HEALTHY_SECONDS = 10.0
_LONGEST_SOCKET_PATH = 80
"""The kernel takes 107 bytes; HAProxy adds a few while it binds."""
_LOAD_NUMBERS = re.compile(r" (?:conn_cur|http_req_rate\(\d+\))=(\d+)")
_ADMINISTRATORS_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_haproxy() -> str | None:
    """Path of the installed HAProxy; its folder is often on the administrator's PATH alone."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:{_ADMINISTRATORS_FOLDERS}")


class HaproxyEngine:
    """Keeps one HAProxy running on a listening socket that outlives it: while it is started again, clients wait."""

    name = "haproxy"

    def __init__(
        self,
        settings: RouterSettings,
        table: RoutingTable,
        listener: socket.socket,
        on_requests: Callable[[bytes], None],
    ) -> None:
        self._settings = settings
        self._table = table
        self._listener = listener
        self._on_requests = on_requests
        self._loaded = 0
        """Generation of the table that HAProxy was started with."""
        self._lock = asyncio.Lock()
        self._serving = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._request_server: asyncio.Server | None = None
        self._places = Places(Path())
        self._account = lesser_account()
        """Whose rights HAProxy gets where this process is root."""
        self.restarts = 0

    async def start(self) -> None:
        """Write configuration and maps, and start HAProxy. Raises `EngineError`."""
        binary = find_haproxy()
        if binary is None:
            raise EngineError("haproxy is not installed; apt-get install haproxy, or set SLIPWAY_ROUTER__ENGINE=relay.")
        self._places = Places(self._directory())
        if self._request_server is None:
            self._request_server = await self._listen_for_requests()
        text = render(self._settings, self._places, self._listener.fileno(), self._connections())
        self._write(self._places.config, text.encode())
        certificate = self._settings.tls_certificate
        if certificate is not None:
            try:
                self._write(self._places.certificate, certificate.read_bytes())
            except OSError as error:
                raise EngineError(f"The certificate {certificate} cannot be read: {error.strerror}.") from error
        await self._spawn(binary)
        self._keeper = asyncio.create_task(self._keep_alive(binary))

    async def apply(self, difference: Difference) -> None:
        """Bring the running maps to the table; an HAProxy that refuses is started again with the whole table.

        Raises `EngineError` when that takes too long.
        """
        async with self._lock:
            paths = {name: str(self._places.map(name)) for name in MAPS}
            already = self._loaded == self._table.generation
            try:
                await run_commands(self._places.admin, [] if already else commands(difference, paths))
            except EngineError as error:
                _LOG.error("haproxy_not_changed", error=str(error))
                self._kill()
        try:
            await asyncio.wait_for(self._serving.wait(), START_SECONDS)
        except TimeoutError:
            raise EngineError(f"HAProxy does not serve since {START_SECONDS:.0f} s; this log says why.") from None

    async def load(self, endpoint_id: UUID) -> int:
        """What its table says. Raises `EngineError`."""
        said = await ask(self._places.admin, f"show table {LOAD} key {endpoint_id}")
        return max((int(number) for number in _LOAD_NUMBERS.findall(said)), default=0)

    async def close(self) -> None:
        """End HAProxy; open requests have no time to finish once the control process goes."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
            self._kill()
            await self._process.wait()
        if self._request_server is not None:
            self._request_server.close()

    async def _keep_alive(self, binary: str) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while self._process is not None:
            began = loop.time()
            code = await self._process.wait()
            self._serving.clear()
            self.restarts += 1
            _LOG.error("haproxy_ended", code=code, restart_seconds=pause)
            if loop.time() - began > _HEALTHY_SECONDS:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self._spawn(binary)
            except (EngineError, OSError) as error:
                _LOG.error("haproxy_not_restarted", error=str(error))

    async def _spawn(self, binary: str) -> None:
        async with self._lock:
            self._loaded = self._table.generation
            for name, text in map_files(self._table):
                self._write(self._places.map(name), text.encode())
            self._process = await start_child(
                [binary, "-db", "-f", str(self._places.config)],
                directory=self._places.directory,
                keep=[self._listener.fileno()],
                account=self._account,
            )
            try:
                await self._until_answering()
            except EngineError:
                self._kill()
                raise
            self._serving.set()

    async def _until_answering(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            if self._process is None or self._process.returncode is not None:
                raise EngineError("HAProxy ended as it was started; what it printed stands above in this log.")
            with contextlib.suppress(EngineError):
                if f"Pid: {self._process.pid}\n" in await ask(self._places.admin, "show info"):
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise EngineError(f"HAProxy does not answer within {START_SECONDS:.0f} s of its start.")
            await asyncio.sleep(_POLL_SECONDS)

    def _kill(self) -> None:
        self._serving.clear()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _listen_for_requests(self) -> asyncio.Server:
        self._places.requests.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        path = str(self._places.requests)
        server = await loop.create_unix_server(lambda: _Requests(self._on_requests), path)
        if self._account is not None:
            os.chown(path, -1, self._account.gid)
        self._places.requests.chmod(0o660)
        return server

    def _directory(self) -> Path:
        """Where HAProxy's files lie: nobody else reads them, and HAProxy writes in a folder for its socket alone."""
        directory = _private_directory(self._settings.state_dir, elsewhere=self._account is not None)
        (directory / SOCKETS).mkdir(exist_ok=True, mode=0o700)
        if self._account is not None:
            os.chown(directory, -1, self._account.gid)
            directory.chmod(0o750)
            os.chown(directory / SOCKETS, self._account.uid, self._account.gid)
        return directory

    def _write(self, file: Path, content: bytes) -> None:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(content)
            if self._account is not None:
                os.fchown(written.fileno(), -1, self._account.gid)
                os.fchmod(written.fileno(), 0o640)

    def _connections(self) -> int:
        """HAProxy refuses a limit for which the process may not have the files: two for each connection."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self._settings.max_connections
        return wanted if most == resource.RLIM_INFINITY else min(wanted, max(16, (most - 200) // 2))


class _Requests(asyncio.Protocol):
    """Cuts what HAProxy says into whole lines."""

    def __init__(self, on_requests: Callable[[bytes], None]) -> None:
        self._on_requests = on_requests
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._on_requests(whole)


def _private_directory(state_dir: Path, *, elsewhere: bool) -> Path:
    """`state_dir`, or a directory that is always the same for it.

    With `elsewhere` the latter, for another account may not get into `state_dir`; so where its path is too long for
    a socket's.
    """
    directory = state_dir.resolve()
    if elsewhere or len(str(directory)) > _LONGEST_SOCKET_PATH:
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"slipway-router-{os.geteuid()}-{name}"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise EngineError(f"{directory} belongs to somebody else; remove it, or set another SLIPWAY_ROUTER__STATE_DIR.")
    directory.chmod(0o700)
    return directory
