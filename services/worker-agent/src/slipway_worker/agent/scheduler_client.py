"""The scheduler as a worker sees it."""

from pathlib import Path
from typing import Final

from slipway_kit.errors import Unauthorized
from slipway_kit.http import FixedToken, Neighbour
from slipway_schemas.workers import SyncAnswer, SyncRequest, WorkerRegister, WorkerRegistered
from slipway_worker.agent.identity import forget_identity, keep_identity, load_identity

_CALL_SECONDS: Final = 10.0


class SchedulerClient:
    """Registers with the group token where no identity is kept, then syncs with the worker's own token."""

    def __init__(self, server_url: str, group_token_file: Path, home: Path) -> None:
        self._server_url = server_url
        self._group_token_file = group_token_file
        self._home = home
        self._identity = load_identity(home)
        self._api: Neighbour | None = None

    @property
    def identity(self) -> WorkerRegistered | None:
        """Who this worker is; None before the registration."""
        return self._identity

    async def close(self) -> None:
        """Close the connections."""
        if self._api is not None:
            await self._api.close()
            self._api = None

    async def register(self, request: WorkerRegister) -> WorkerRegistered:
        """Join the environment of the group token. Raises `Unauthorized` when the token is refused."""
        token = self._group_token_file.read_text().strip()
        async with Neighbour(self._server_url, FixedToken(token), "scheduler") as api:
            identity = await api.post(
                "/workers/v1/register", body=request, result=WorkerRegistered, timeout=_CALL_SECONDS
            )
        keep_identity(self._home, identity)
        await self.close()
        self._identity = identity
        return identity

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Tell what is and hear what differs. On `Unauthorized` the identity is forgotten: register again."""
        if self._identity is None:
            raise Unauthorized("This worker is not registered.")
        if self._api is None:
            self._api = Neighbour(self._server_url, FixedToken(self._identity.worker_token), "scheduler")
        try:
            return await self._api.post(
                "/workers/v1/sync", body=request, result=SyncAnswer, timeout=request.wait_seconds + _CALL_SECONDS
            )
        except Unauthorized:
            forget_identity(self._home)
            self._identity = None
            await self.close()
            raise
