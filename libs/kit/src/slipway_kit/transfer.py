"""The aiohttp session for bytes: large bodies to and from object stores by signed URLs."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout
from aiohttp.abc import ResolveResult

from slipway_kit.egress import EgressRules

TRANSFER_ERRORS = (aiohttp.ClientError, TimeoutError)
"""What a request raises when the connection fails, breaks off or is silent for too long."""

NOT_TRUSTED_ERRORS = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
"""What a request raises when the other side's certificate is not trusted, or it speaks no TLS."""

__all__ = [
    "NOT_TRUSTED_ERRORS",
    "TRANSFER_ERRORS",
    "ClientResponse",
    "ClientSession",
    "ClientTimeout",
    "transfer_session",
    "trusting",
]

_READ_BUFFER_BYTES = 1024 * 1024


def trusting(ca_file: Path) -> ssl.SSLContext:
    """What trusts the system's certificates and those of `ca_file`. Blocking (tens of milliseconds)."""
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context


def transfer_session(
    *,
    connections: int = 32,
    idle_seconds: float = 60,
    egress: EgressRules | None = None,
    trust: ssl.SSLContext | None = None,
) -> ClientSession:
    """A session without a limit on the whole transfer, but on connecting (10 s) and on silence
    (`idle_seconds`).

    With `egress`, every connection is checked against the rules after its name was resolved, redirects
    too: all addresses of the name, and again the one that is connected to. A refused one raises
    `EgressRefused`. Bodies are passed as they are stored (no decompression), so
    checksums and ranges stay true. `trust`: from `trusting`; None = the system's certificates. Close it after use.
    """
    return ClientSession(
        connector=_connector(connections, egress, True if trust is None else trust),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_seconds),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )


def _connector(connections: int, egress: EgressRules | None, trust: ssl.SSLContext | bool) -> aiohttp.TCPConnector:
    if egress is None:
        return aiohttp.TCPConnector(limit=connections, ssl=trust)
    # Addresses are tried one after the other, so that a refusal ends the attempt with its own error.
    return aiohttp.TCPConnector(
        limit=connections,
        ssl=trust,
        resolver=_CheckedResolver(egress),
        socket_factory=_checked_sockets(egress),
        happy_eyeballs_delay=None,
        use_dns_cache=False,
    )


class _CheckedResolver(aiohttp.ThreadedResolver):
    """Refuses a name if any of its addresses is refused."""

    def __init__(self, egress: EgressRules) -> None:
        super().__init__()
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name."""
        found = await super().resolve(host, port, family)
        for one in found:
            self._egress.check(one["host"])
        return found


def _checked_sockets(egress: EgressRules) -> Callable[[Any], socket.socket]:
    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        egress.check(str(address[0]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make
