"""Which addresses may be reached on behalf of a user (design section 12, 'Egress').

One set of rules for everything whose host a user names: repositories, inputs, and what else fetches or sends.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from slipway_kit.errors import Forbidden, Invalid, Unavailable

RESOLVE_TIMEOUT_SECONDS: Final = 10.0

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64: Final = IPv6Network("64:ff9b::/96")
# The standard library of Python 3.11 takes some of these for public.
_NEVER_PUBLIC: Final = (
    IPv6Network("::/96"),  # IPv4-compatible, deprecated
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of a local network
    IPv6Network("100::/64"),  # discarded
    IPv6Network("2001::/23"),  # Teredo and other protocol assignments
    IPv6Network("2002::/16"),  # 6to4, when the address inside is public: the way there is a relay's
    IPv6Network("fec0::/10"),  # site-local, deprecated
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv4Network("168.63.129.16/32"),  # the host of an Azure machine
)
_METADATA: Final = (IPv6Network("fd00:ec2::/32"), IPv6Network("fd20:ce::/32"), IPv4Network("100.100.100.200/32"))


class EgressRefused(Forbidden):
    """An address may not be reached."""

    code = "egress_refused"


class EgressRules:
    """Public addresses are allowed, others only in the networks given; link-local ones and those where clouds give
    out credentials never.

    Raises `Invalid` for a network that is not in CIDR form.
    """

    def __init__(self, allow: Iterable[str | Network] = ()) -> None:
        try:
            self._allow = tuple(ip_network(network, strict=False) for network in allow)
        except ValueError as error:
            raise Invalid(f"A network that may be reached is not in CIDR form: {error}.") from error

    def allows(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        found = _unwrapped(address)
        if found.is_link_local or found.is_unspecified or found.is_multicast or _within(found, _METADATA):
            return False
        if _within(found, self._allow):
            return True
        return found.is_global and not found.is_reserved and not _within(address, _NEVER_PUBLIC)

    def check(self, address: str) -> None:
        """Raise `EgressRefused` when this address, as resolved, may not be connected to."""
        if not self.allows(ip_address(address.partition("%")[0])):
            raise EgressRefused(
                f"The address {address} is not public and no allowed network holds it. "
                "An administrator can allow its network."
            )

    async def resolve(self, host: str, port: int) -> Address:
        """Resolve a host once and return the address to connect to. Every address that it has must be allowed.

        The caller connects to exactly this address, so that a second, different answer of the name server changes
        nothing. Raises `Unavailable` for a host that cannot be found, `EgressRefused`.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise Unavailable(f"The host {host!r} cannot be found: check its name.", code="unreachable") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            self.check(address)
        return ip_address(addresses[0].partition("%")[0])


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where a machine would connect to that."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
