"""Which addresses the control plane may reach when a user names the host (design section 12, 'Egress')."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from slipway_kit.errors import Invalid

RESOLVE_TIMEOUT_SECONDS = 10.0

_NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def inner_address(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 one; else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def may_reach(address: Address, allowed: Sequence[Network]) -> bool:
    """Public addresses, and those in `allowed`. Link-local ones never: clouds give out credentials there."""
    inner = inner_address(address)
    if inner.is_link_local or inner.is_multicast or inner.is_unspecified:
        return False
    if any(inner.version == network.version and inner in network for network in allowed):
        return True
    return inner.is_global and not inner.is_reserved


async def resolve_allowed(host: str, port: int, allowed: Sequence[Network]) -> Address:
    """Resolve a host once and return the address to connect to. Every address that it has must be allowed.

    The caller connects to exactly this address, so that a second, different answer of the name server changes nothing.
    Raises `Invalid` on field `url`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise Invalid(f"The host {host!r} cannot be found: check its name.", field="url", code="unreachable") from error
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    refused = next((address for address in addresses if not may_reach(address, allowed)), None)
    if refused is not None or not addresses:
        raise Invalid(
            f"The host {host!r} is at {refused}, which is not a public address. An operator can allow its network "
            "with SLIPWAY_GATEWAY__EGRESS__ALLOW_CONTROL_PLANE.",
            field="url",
            code="egress_refused",
        )
    return addresses[0]
