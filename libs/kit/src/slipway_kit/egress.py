"""Which networks a fetch on behalf of a user may reach (design section 12, 'Egress')."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from slipway_kit.errors import Forbidden, Invalid

_NAT64 = ip_network("64:ff9b::/96")


class EgressRules:
    """Public addresses are allowed, others only in the networks given, link-local ones never.

    Raises `Invalid` for a network that is not in CIDR form.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        try:
            self._allow = tuple(ip_network(network, strict=False) for network in allow)
        except ValueError as error:
            raise Invalid(f"A network that may be reached is not in CIDR form: {error}.") from error

    def check(self, address: str) -> None:
        """Raise `Forbidden` when this address, as resolved, may not be connected to."""
        found = _unwrapped(ip_address(address.partition("%")[0]))
        if found.is_link_local or found.is_unspecified or found.is_multicast:
            raise self._refused(address)
        if found.is_global:
            return
        if not any(found in network for network in self._allow):
            raise self._refused(address)

    @staticmethod
    def _refused(address: str) -> Forbidden:
        return Forbidden(
            f"The address {address} is not public and no allowed network holds it. "
            "An administrator can allow its network in the environment.",
            code="egress_refused",
        )


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv6 one, where a machine would connect to that."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
