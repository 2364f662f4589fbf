"""The relay: serves by the same rules where HAProxy is not installed."""

import asyncio
import ipaddress
import random
import socket
import ssl
import time
from collections.abc import Callable
from uuid import UUID

from slipway_builder.router.deciding import Decider
from slipway_builder.router.engines.protocol import EngineError
from slipway_builder.router.engines.relay_backend import Pool
from slipway_builder.router.engines.relay_client import ClientConnection
from slipway_builder.router.load import RequestLoad
from slipway_builder.router.settings import RouterSettings, TimeoutSettings
from slipway_builder.router.table import Difference, RoutingTable

_SWEEP_SECONDS = 1.0


class RelayEngine:
    """Reads requests and passes them on in this process."""

    name = "relay"
    restarts = 0

    def __init__(
        self,
        settings: RouterSettings,
        table: RoutingTable,
        listener: socket.socket,
        on_requests: Callable[[bytes], None],
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.note = on_requests
        self.decider = Decider(table, lambda: random.randrange(10_000))  # noqa: S311 - shares of a canary
        self.pool = Pool(settings.timeouts.connect, settings.timeouts.wake)
        self.arrivals = RequestLoad(time.monotonic)
        self.connections: set[ClientConnection] = set()

    @property
    def timeouts(self) -> TimeoutSettings:
        """How long to wait."""
        return self._settings.timeouts

    def trusts(self, address: str) -> bool:
        """Whether that is a proxy of ours."""
        if not self._settings.trusted_proxies:
            return False
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._settings.trusted_proxies)

    async def start(self) -> None:
        """Take connections. Raises `EngineError` when the certificate cannot be used."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self), sock=self._listener, ssl=self._tls(), backlog=4096
        )
        self._sweeper = asyncio.create_task(self._sweep())

    async def apply(self, difference: Difference) -> None:
        """Nothing to do: each request looks into the table."""

    async def load(self, endpoint_id: UUID) -> int:
        """As counted here."""
        return self.arrivals.requests(str(endpoint_id))

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()
        self.pool.close()

    def _tls(self) -> ssl.SSLContext | None:
        if self._settings.tls_certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._settings.tls_certificate)
        except (OSError, ssl.SSLError) as error:
            raise EngineError(f"The certificate {self._settings.tls_certificate} cannot be used: {error}.") from error
        return context

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.pool.sweep()
            for connection in list(self.connections):
                connection.sweep()
