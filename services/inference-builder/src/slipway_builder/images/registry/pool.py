"""Kept connections to registries, and where a base image is read from."""

from slipway_builder.images.protocol import ImageRequest, RegistryAccess
from slipway_builder.images.registry.client import RegistryClient
from slipway_builder.images.registry.references import ImageReference, canonical_host
from slipway_kit.egress import EgressRules


class RegistryPool:
    """One client per registry and login."""

    def __init__(self, egress: EgressRules | None) -> None:
        self._egress = egress
        self._own: dict[RegistryAccess, RegistryClient] = {}
        self._foreign: dict[RegistryAccess, RegistryClient] = {}

    def target(self, access: RegistryAccess) -> RegistryClient:
        """The operator's registry: wherever it is, it may be reached."""
        if access not in self._own:
            self._own[access] = RegistryClient(access)
        return self._own[access]

    def source(self, base: ImageReference, request: ImageRequest) -> RegistryClient:
        """The registry that a user's base image comes from; its address must be allowed."""
        if canonical_host(request.registry.host) == base.host:
            return self.target(request.registry)
        access = source_access(base, request)
        if access not in self._foreign:
            self._foreign[access] = RegistryClient(access, egress=self._egress)
        return self._foreign[access]

    async def aclose(self) -> None:
        """Close all connections."""
        for client in (*self._own.values(), *self._foreign.values()):
            await client.aclose()
        self._own.clear()
        self._foreign.clear()


def source_access(base: ImageReference, request: ImageRequest) -> RegistryAccess:
    """The login for the registry of a base image: one that the request has, else none."""
    known = (request.registry, *request.sources)
    return next((one for one in known if canonical_host(one.host) == base.host), RegistryAccess(base.host))
