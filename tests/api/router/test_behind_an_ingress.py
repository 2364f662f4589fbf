"""TLS of the router itself, and proxies in front of it that are believed."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway_testing.neighbours.routing import RoutingNeighbour
from slipway_testing.neighbours.serving import ServedApp
from slipway_testing.pods import Pod
from slipway_testing.router_process import running_router
from slipway_testing.wire import request
from tests.api.router.conftest import ENGINES
from tests.api.router.support import Site


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_trusted_proxy_says_who_the_client_is(engine: str, tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    builder = RoutingNeighbour()
    builder.put()
    async with (
        ServedApp(builder.app) as app,
        Pod("one") as one,
        Pod("two") as two,
        running_router(
            builder,
            app.url,
            tmp_path,
            engine,
            trusted_proxies='["127.0.0.0/8"]',
            tls_certificate=str(certificate),
        ) as router,
    ):
        site = Site(builder, router, one, two, app)
        await site.put(site.route("v", site.first()), site.route("canary", site.first(50), site.second(50)))
        path = f"{site.path('v')}/echo"
        await _ask(router.port, certificate, path)
        assert one.seen[-1].header("x-forwarded-proto") == ["https"]
        assert one.seen[-1].header("x-forwarded-for") == ["127.0.0.1"]
        own = ("X-Forwarded-For: 9.9.9.9, 8.8.8.8", "X-Forwarded-Proto: http", "X-Forwarded-Host: models")
        await _ask(router.port, certificate, path, *own, "X_Forwarded_For: 7.7.7.7", "X-VH-Prefix: /evil")
        seen = one.seen[-1]
        assert ", ".join(seen.header("x-forwarded-for")) == "9.9.9.9, 8.8.8.8, 127.0.0.1"
        assert (seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")) == (["http"], ["models"])
        assert seen.header("x-vh-prefix") == [f"{site.path('v')}/"]
        assert seen.header("x_forwarded_for") == []
        met = {
            client: {
                await _ask(router.port, certificate, site.path("canary"), f"X-Forwarded-For: 10.0.0.{client}")
                for _ in range(2)
            }
            for client in range(20)
        }
        assert {len(one) for one in met.values()} == {1}
        assert {version for one in met.values() for version in one} == {"v1", "v2"}


async def _ask(port: int, certificate: Path, path: str, *headers: str) -> str:
    """The version that answered a request over TLS."""
    context = ssl.create_default_context(cafile=certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    writer.write(request("GET", path, "Connection: close", *headers))
    async with asyncio.timeout(10):
        raw = await reader.readuntil(b"\r\n\r\n")
        await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    found = dict(line.lower().split(": ", 1) for line in raw.decode().split("\r\n")[1:] if line)
    return found["x-slipway-version"]


def _certificate(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "router.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file
