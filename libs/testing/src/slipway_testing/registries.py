"""Image registries for tests: Debian's docker-registry on the loopback, plain or with TLS and a login."""

import datetime
import ipaddress
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway_testing.groups import find_tool
from slipway_testing.ports import unused_port

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


def _configuration(port: int, home: Path, *, secure: bool) -> str:
    lines = [
        "version: 0.1",
        "log: {level: warn, accesslog: {disabled: true}}",
        "storage:",
        f"  filesystem: {{rootdirectory: {home / 'data'}}}",
        "  delete: {enabled: true}",
        "  redirect: {disable: true}",
        "http:",
        f"  addr: 127.0.0.1:{port}",
    ]
    if secure:
        lines += [
            f"  tls: {{certificate: {home / 'server.pem'}, key: {home / 'server.key'}}}",
            "auth:",
            f"  htpasswd: {{realm: tests, path: {home / 'htpasswd'}}}",
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def running_registry(home: Path, *, username: str | None = None, password: str | None = None) -> Iterator[Registry]:
    """A registry below `home`; with a login it speaks TLS and takes nobody else."""
    home.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    secure = username is not None and password is not None
    if secure:
        _make_certificate(home)
        _run("htpasswd", "-Bbc", str(home / "htpasswd"), str(username), str(password))
    (home / "config.yml").write_text(_configuration(port, home, secure=secure))
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
    host = f"127.0.0.1:{port}"
    try:
        _wait_for_answer(process, port, log)
        ca_file = home / "server.pem" if secure else None
        yield Registry(host, home / "data", username, password, ca_file)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


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


def _make_certificate(home: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slipway test registry")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
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
