"""Image registries for tests: Debian's docker-registry on the loopback, plain or with TLS and a login."""

import base64
import datetime
import ipaddress
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from slipway_testing.ports import unused_port
from slipway_testing.tools import find_tool

START_SECONDS = 30.0


@dataclass(frozen=True)
class Registry:
    """A registry that runs, and how to log in."""

    host: str
    root: Path
    """Where it keeps its blobs."""
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None


def _configuration(address: str, port: int, home: Path, *, secure: bool, realm: str | None) -> str:
    lines = [
        "version: 0.1",
        "log: {level: warn, accesslog: {disabled: true}}",
        "storage:",
        f"  filesystem: {{rootdirectory: {home / 'data'}}}",
        "  delete: {enabled: true}",
        "  redirect: {disable: true}",
        "http:",
        f"  addr: {address}:{port}",
    ]
    if secure:
        lines += [
            f"  tls: {{certificate: {home / 'server.pem'}, key: {home / 'server.key'}}}",
            "auth:",
            f"  htpasswd: {{realm: tests, path: {home / 'htpasswd'}}}",
        ]
    if realm is not None:
        bundle = f"rootcertbundle: {home / 'server.pem'}"
        lines += ["auth:", f"  token: {{realm: '{realm}', service: tests, issuer: tests, {bundle}}}"]
    return "\n".join(lines) + "\n"


@contextmanager
def running_registry(
    home: Path,
    *,
    username: str | None = None,
    password: str | None = None,
    tokens: bool = False,
    address: str = "127.0.0.1",
    name: str = "127.0.0.1",
) -> Iterator[Registry]:
    """A registry below `home`.

    With a login it speaks TLS and takes nobody else; with `tokens` too it is plain, and a token server asks for the
    login instead, as the large public registries do. `name` is the address by which it is named, whatever `address` it
    listens on.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    secure = username is not None and password is not None and not tokens
    key = _make_certificate(home, name) if username is not None else None
    if secure:
        _run("htpasswd", "-Bbc", str(home / "htpasswd"), str(username), str(password))
    with ExitStack() as stack:
        realm = None
        if tokens and key is not None:
            realm = stack.enter_context(_token_server(home, key, f"{username}:{password}"))
        (home / "config.yml").write_text(_configuration(address, port, home, secure=secure, realm=realm))
        stack.enter_context(_serving(home, port))
        yield Registry(f"{name}:{port}", home / "data", username, password, home / "server.pem" if secure else None)


@contextmanager
def _serving(home: Path, port: int) -> Iterator[None]:
    log = home / "registry.log"
    tool = find_tool("docker-registry")
    if tool is None:
        raise RuntimeError("docker-registry is not installed; mark the test with the group registry")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool, "serve", str(home / "config.yml")],
            env={"OTEL_TRACES_EXPORTER": "none", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for_answer(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def _token_server(home: Path, key: ec.EllipticCurvePrivateKey, login: str) -> Iterator[str]:
    """Gives tokens for whatever is asked to who knows the login, and to others for public repositories."""
    certificate = x509.load_pem_x509_certificate((home / "server.pem").read_bytes())
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    expected = f"Basic {base64.b64encode(login.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            known = self.headers.get("Authorization") == expected
            if self.headers.get("Authorization") and not known:
                self.send_error(401)
                return
            access = [
                {"type": kind, "name": name, "actions": actions.split(",")}
                for kind, name, actions in (scope.split(":") for scope in scopes)
                if known or (name.startswith("public/") and actions == "pull")
            ]
            now = int(time.time())
            claims = {
                "iss": "tests",
                "sub": "",
                "aud": "tests",
                "exp": now + 60,
                "nbf": now - 5,
                "iat": now,
                "jti": "1",
            }
            head = _part({"typ": "JWT", "alg": "ES256", "x5c": [der]}) + "." + _part({**claims, "access": access})
            r, s = decode_dss_signature(key.sign(head.encode(), ec.ECDSA(hashes.SHA256())))
            signature = _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
            body = json.dumps({"token": f"{head}.{signature}", "expires_in": 60}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _part(document: object) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A plain registry without a login. Mark tests that use it with `@pytest.mark.registry`."""
    with running_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="session")
def secure_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with TLS by its own certificate, and a login. Mark tests that use it with `@pytest.mark.registry`."""
    with running_registry(tmp_path_factory.mktemp("secure"), username="slipway", password="correct horse") as found:
        yield found


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants tokens; everybody may pull what lies below `public/`. Group `registry`."""
    home = tmp_path_factory.mktemp("tokens")
    with running_registry(home, username="slipway", password="correct horse", tokens=True) as found:
        yield found


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def _wait_for_answer(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the registry does not answer on {port}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2):
                return
        except HTTPError:
            return  # it speaks TLS only, and says so
        except (URLError, OSError):
            time.sleep(0.03)


def _make_certificate(home: Path, address: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway test registry")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (home / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (home / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return key
