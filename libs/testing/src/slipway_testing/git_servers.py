"""Git servers on loopback: smart HTTP through `git http-backend`, and SSH through OpenSSH's sshd."""

import base64
import getpass
import hmac
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from slipway_testing.ports import unused_port
from slipway_testing.tools import find_tool

TOOL_SECONDS = 60.0
START_SECONDS = 15.0


def create_bare_repository(path: Path) -> Path:
    """An empty bare repository with the default branch `main` that accepts pushes over HTTP."""
    for arguments in (
        ["init", "--quiet", "--bare", "--initial-branch=main", str(path)],
        ["-C", str(path), "config", "http.receivepack", "true"],
    ):
        subprocess.run(["git", *arguments], check=True, capture_output=True, timeout=TOOL_SECONDS)
    return path


class GitHttpServer:
    """Serves the bare repositories under `root`; with `token` set, only to who sends it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.token: str | None = None
        """Password of Basic (any user name) or Bearer token that every request must carry; None = open."""
        self.requests: list[str] = []
        """Method and path of every request, in order."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        """URL of the root, without credentials."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def url(self, name: str, *, user: str | None = None, password: str | None = None) -> str:
        """URL of a repository, with credentials in it when given."""
        login = f"{quote(user, safe='')}:{quote(password or '', safe='')}@" if user is not None else ""
        return f"http://{login}127.0.0.1:{self._server.server_port}/{name}.git"

    def create(self, name: str) -> Path:
        """Create an empty repository and give its folder (push there with a plain path)."""
        return create_bare_repository(self.root / f"{name}.git")

    def allows(self, authorization: str) -> bool:
        """True when the header carries the token, or none is wanted."""
        if self.token is None:
            return True
        scheme, _, value = authorization.partition(" ")
        given = value
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(given.encode(), self.token.encode())

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _handler_for(owner: GitHttpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """CGI bridge to `git http-backend`."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self._body())

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return bytes(body)

        def _serve(self, body: bytes) -> None:
            owner.requests.append(f"{self.command} {self.path}")
            if not owner.allows(self.headers.get("Authorization", "")):
                self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            where = urlsplit(self.path)
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                capture_output=True,
                timeout=TOOL_SECONDS,
                check=False,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "GIT_PROJECT_ROOT": str(owner.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "safe.directory",
                    "GIT_CONFIG_VALUE_0": "*",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": where.path,
                    "QUERY_STRING": where.query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_ADDR": "127.0.0.1",
                    "REMOTE_USER": "test",
                },
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            status = 200
            headers: list[tuple[str, str]] = []
            for line in head.decode("latin-1").split("\r\n"):
                name, _, value = line.partition(":")
                if name.lower() == "status":
                    status = int(value.split()[0])
                elif value:
                    headers.append((name, value.strip()))
            if done.returncode != 0 and not head:
                status, content = 500, done.stderr
            self._answer(status, headers, content)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() != "content-length":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Tests look at `requests`; nothing is printed."""

    return Handler


class GitSshServer:
    """sshd on loopback with its own host key and configuration; logs in the current user by key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = unused_port()
        self.user = getpass.getuser()
        self._directory = root / ".sshd"
        self._directory.mkdir(mode=0o700)
        self._authorized = self._directory / "authorized_keys"
        self._authorized.touch(mode=0o600)
        self._log = self._directory / "sshd.log"
        self._host_key = self._directory / "host_key"
        make_ssh_key(self._host_key)
        self._process = self._start()

    @property
    def known_hosts(self) -> str:
        """The line for a client's known_hosts file."""
        kind, key = self._host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def authorize(self, *public_keys: str) -> None:
        """Let exactly these public keys in, from the next login on."""
        self._authorized.write_text("".join(f"{key.strip()}\n" for key in public_keys))

    def create(self, name: str) -> Path:
        """Create an empty repository and give its folder."""
        return create_bare_repository(self.root / f"{name}.git")

    def url(self, name: str) -> str:
        """`ssh://` URL of a repository."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.root / name}.git"

    def close(self) -> None:
        """Stop serving."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _start(self) -> "subprocess.Popen[bytes]":
        sshd = find_tool("sshd")
        if sshd is None:
            raise RuntimeError("sshd is not installed; apt-get install openssh-server")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to run as root without it
        config = self._directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\n"
            f"HostKey {self._host_key}\n"
            f"AuthorizedKeysFile {self._authorized}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowTcpForwarding no\n"
            "X11Forwarding no\nUseDNS no\nLogLevel VERBOSE\n"
        )
        with self._log.open("wb") as output:
            process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"sshd does not answer:\n{self._log.read_text(errors='replace')[-2000:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return process
            except OSError:
                time.sleep(0.02)


def make_ssh_key(path: Path) -> str:
    """Make an Ed25519 key pair without a passphrase at `path` and `path.pub`; gives the public key."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)],
        check=True,
        capture_output=True,
        timeout=TOOL_SECONDS,
    )
    return path.with_suffix(".pub").read_text()


@pytest.fixture
def git_http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHttpServer]:
    """Git over smart HTTP; set `.token` to ask for one."""
    server = GitHttpServer(tmp_path_factory.mktemp("git-http"))
    yield server
    server.close()
    shutil.rmtree(server.root, ignore_errors=True)


@pytest.fixture
def git_ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitSshServer]:
    """Git over SSH; nobody may log in until `.authorize()`. Mark tests with `@pytest.mark.ssh`."""
    server = GitSshServer(tmp_path_factory.mktemp("git-ssh"))
    yield server
    server.close()
    shutil.rmtree(server.root, ignore_errors=True)
